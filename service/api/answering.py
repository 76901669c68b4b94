"""From a call to a response, streamed or whole: what completions and chat have in common."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.adapters.naming import written_digest
from service.api.dependencies import Services
from service.api.disconnect import ClientGone, unless_disconnected
from service.api.exceptions import UNEXPECTED, error_body, shape_of
from service.api.middleware import CLIENT_GONE
from service.api.rates import rate_headers
from service.api.streaming import ClosingStreamingResponse
from service.api.timing import timing_headers
from service.api.wire import DONE, Choice, Envelope, Usage, WireFormat
from service.core import AdapterRef, FinishReason
from service.errors import EngineFailed
from service.handlers.answer import Answer
from service.handlers.choice import Delta, PlacedLogprob
from service.handlers.generation import GenerationCall
from service.telemetry import RequestRecord
from service.text import Tokenizer

FIRST_TOKEN_SECONDS = 10.0
"""How long the status line waits for the first token.

What fails before it (overload, a cold load, the engine) is then a real status that clients and
load balancers understand. Whoever waits longer sees headers and keep-alives instead of silence.
"""


def new_request_id(prefix: str) -> str:
    """Ours, not the client's `X-Request-Id`: two requests may carry the same one. No secret, so the
    system is not asked, for which the interpreter would be left to the engine's thread."""
    return f"{prefix}{random.getrandbits(128):032x}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way to its response."""

    request: Request
    services: Services
    record: RequestRecord
    wire: Callable[[Tokenizer], WireFormat]
    """Given the tokenizer that names the answer's tokens."""
    call: GenerationCall

    async def respond(self, is_streamed: bool, includes_usage: bool) -> Response:
        self.record.model = self.call.model
        work = self._stream(includes_usage) if is_streamed else self._whole()
        try:
            return await unless_disconnected(self.request, work)
        except ClientGone:
            return Response(status_code=CLIENT_GONE)

    async def _whole(self) -> Response:
        answer = await self.services.generation.open(self.call)
        self._note(answer)
        try:
            choices = await _collect(answer)
            body = self._envelope(answer).whole(choices, _usage(answer))
            timing = timing_headers(answer.slowest, is_whole=True)
            return JSONResponse(body, headers=_headers(answer) | timing)
        finally:
            await self._close(answer)

    async def _stream(self, includes_usage: bool) -> Response:
        answer = await self.services.generation.open(self.call)
        self._note(answer)
        reader = DeltaReader(answer)
        try:
            await reader.wait_for_first(FIRST_TOKEN_SECONDS)
        except BaseException:
            await reader.aclose()
            await self._close(answer)
            raise

        async def close() -> None:
            await reader.aclose()
            await self._close(answer)

        frames = self._frames(answer, reader, includes_usage)
        timing = timing_headers(answer.slowest, is_whole=False)
        return ClosingStreamingResponse(frames, close, _headers(answer) | timing)

    async def _frames(
        self, answer: Answer, reader: "DeltaReader", includes_usage: bool
    ) -> AsyncGenerator[str, None]:
        frames = self._envelope(answer).frames(includes_usage)
        try:
            opening = "".join(frames.opening(i) for i in range(answer.num_choices))
            if opening:
                yield opening
            async for delta in reader:
                yield frames.delta(delta)
            if includes_usage:
                yield frames.usage(_usage(answer))
            yield DONE
        except Exception as error:
            yield self._failure(error)

    def _failure(self, error: Exception) -> str:
        """The status is already sent, so the error is the last event."""
        self.record.error = type(error).__name__
        if shape_of(error) is UNEXPECTED:
            self.services.telemetry.log.exception("stream failed")
        return f"data: {JSONResponse(None).render(error_body(error)).decode()}\n\n"

    def _envelope(self, answer: Answer) -> Envelope:
        fingerprint = f"fp_{self.services.base.fingerprint[:12]}"
        if answer.adapter is not None:
            fingerprint += f"_{answer.adapter.digest[:12]}"
        wire = self.wire(answer.tokenizer)
        return Envelope(wire, self.call.request_id, answer.model, fingerprint)

    def _note(self, answer: Answer) -> None:
        self.record.num_prompt_tokens = answer.num_prompt_tokens
        if answer.adapter is not None:
            self.record.adapter = answer.adapter.name
            self.record.version = answer.adapter.version or None

    async def _close(self, answer: Answer) -> None:
        self.record.num_generated_tokens = answer.num_generated_tokens
        self.record.seconds_to_first_token = answer.seconds_to_first_token
        self.record.timeline = answer.slowest
        await answer.aclose()


class DeltaReader:
    """Deltas of an answer; the first may be waited for in two steps without losing it."""

    def __init__(self, answer: Answer) -> None:
        self._deltas = aiter(answer)
        self._first: asyncio.Task[Delta] | None = None

    async def wait_for_first(self, seconds: float) -> None:
        """Raises what failed before it."""
        self._first = asyncio.ensure_future(_next(self._deltas))
        await asyncio.wait({self._first}, timeout=seconds)
        if self._first.done():
            self._first.result()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        if self._first is not None:
            yield await self._first
        async for delta in self._deltas:
            yield delta

    async def aclose(self) -> None:
        if self._first is not None:
            self._first.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await self._first


async def _next(deltas: AsyncIterator[Delta]) -> Delta:
    try:
        return await anext(deltas)
    except StopAsyncIteration:
        # Every choice has at least the delta with its finish reason.
        raise EngineFailed("The engine ended an answer without saying why.") from None


async def _collect(answer: Answer) -> list[Choice]:
    texts: list[list[str]] = [[] for _ in range(answer.num_choices)]
    logprobs: list[list[PlacedLogprob]] = [[] for _ in range(answer.num_choices)]
    reasons = [FinishReason.LENGTH] * answer.num_choices
    async for delta in answer:
        texts[delta.choice].append(delta.text)
        logprobs[delta.choice].extend(delta.logprobs)
        if delta.finish_reason is not None:
            reasons[delta.choice] = delta.finish_reason
    return [
        Choice(i, "".join(texts[i]), reasons[i], logprobs[i]) for i in range(answer.num_choices)
    ]


def _usage(answer: Answer) -> Usage:
    return Usage(answer.num_prompt_tokens, answer.num_generated_tokens, answer.num_cached_tokens)


def _headers(answer: Answer) -> dict[str, str]:
    fallback = {"x-cold-fallback": "true"} if answer.is_fallback else {}
    return {**_adapter_headers(answer.adapter), **fallback, **rate_headers(answer.rates)}


def _adapter_headers(adapter: AdapterRef | None) -> dict[str, str]:
    """One member for an adapter; one for each part of a sum, with its weight as a parameter."""
    if adapter is None:
        return {}
    parts = [(part.ref, f";weight={part.weight!r}") for part in adapter.parts] or [(adapter, "")]
    return {
        "x-adapter-version": ", ".join(f"{ref.label}{weight}" for ref, weight in parts),
        "x-adapter-digest": ", ".join(written_digest(ref.digest) + weight for ref, weight in parts),
    }
