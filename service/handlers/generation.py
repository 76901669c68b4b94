"""The use case of every completion: bind an adapter version, submit, turn events into text.

Knows no HTTP. An `Answer` owns what it took (the adapter version, the engine's sequences) until
`aclose`, which gives everything back exactly once whatever happened in between.
"""

import time
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from service.core import AdapterRef, BaseDescription, GenerationRequest, SamplingParams
from service.engine.client import EngineClient, TokenStream
from service.errors import InvalidRequest, PromptTooLong
from service.handlers.answer import Answer
from service.handlers.binding import AdapterBinder, Registry, Summand
from service.handlers.choice import ChoiceText
from service.handlers.merge import MergedStreams
from service.handlers.prompts import Prompt, check_token_ids, echo_text, encode_prompts
from service.telemetry import Metrics
from service.text import Tokenizer

MAX_SEQUENCES = 128
"""Prompts times choices of one request."""


@dataclass(frozen=True, slots=True)
class GenerationCall:
    """A validated request, free of its wire format."""

    request_id: str
    model: str
    prompts: tuple[Prompt, ...]
    params: SamplingParams
    is_shortened_to_fit: bool = False
    """`max_tokens` is a default, so that a long prompt may leave room for fewer tokens."""
    adapters: tuple[Summand, ...] = ()
    """Of a weighted sum on the base, which `model` names then."""
    n: int = 1
    stop: tuple[str, ...] = ()
    echo: bool = False
    arrived: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""


class GenerationHandler:
    def __init__(
        self,
        base: BaseDescription,
        tokenizer: Tokenizer,
        registry: Registry,
        engine: EngineClient,
        metrics: Metrics,
    ) -> None:
        self.base = base
        self.tokenizer = tokenizer
        self._binder = AdapterBinder(base.name, registry)
        self._engine = engine
        self._metrics = metrics

    async def open(self, call: GenerationCall) -> Answer:
        """Accept the call and queue its sequences. The caller must close what it gets."""
        adapter = self._acquire(call)
        try:
            encoded = await self._encode(call)
            requests = [
                self._request(call, adapter, encoded[i // call.n], i)
                for i in range(len(encoded) * call.n)
            ]
            choices = [
                ChoiceText(i, request, self.tokenizer, call.stop, self._echo(call, request, i))
                for i, request in enumerate(requests)
            ]
            streams = await self._submit(requests)
        except BaseException:
            self._binder.release(adapter)
            raise
        num_prompt_tokens = sum(map(len, encoded))
        self._metrics.prompt_tokens.inc(num_prompt_tokens)
        return Answer(
            adapter,
            num_prompt_tokens,
            choices,
            MergedStreams(streams),
            call.arrived,
            self._metrics,
            release=partial(self._binder.release, adapter),
        )

    def _acquire(self, call: GenerationCall) -> AdapterRef | None:
        adapter = self._binder.acquire(call.model, call.adapters)
        if adapter is not None:
            version = adapter.version or None
            structlog.contextvars.bind_contextvars(adapter=adapter.name, version=version)
        return adapter

    async def _encode(self, call: GenerationCall) -> list[tuple[int, ...]]:
        if len(call.prompts) * call.n > MAX_SEQUENCES:
            raise InvalidRequest(
                f"{len(call.prompts)} prompts with {call.n} choices each are more than "
                f"{MAX_SEQUENCES} sequences.",
                "n",
            )
        vocab_size = self.base.vocab_size
        check_token_ids([one for one, _ in call.params.logit_bias], vocab_size, "logit_bias")
        check_token_ids(call.params.stop_token_ids, vocab_size, "stop_token_ids")
        return await encode_prompts(self.tokenizer, call.prompts, vocab_size)

    def _request(
        self, call: GenerationCall, adapter: AdapterRef | None, ids: tuple[int, ...], index: int
    ) -> GenerationRequest:
        params = replace(call.params, max_tokens=self._max_tokens(call, len(ids)))
        request_id = f"{call.request_id}-{index}"
        return GenerationRequest(request_id, ids, params, adapter, choice=index % call.n)

    def _max_tokens(self, call: GenerationCall, num_prompt: int) -> int:
        wanted, limit = call.params.max_tokens, self.base.max_model_len
        room = limit - num_prompt
        if call.is_shortened_to_fit and room > 0:
            return min(wanted, room)
        if wanted > room:
            raise PromptTooLong(
                f"The context is {limit} tokens, but the prompt has {num_prompt}"
                + (f" and {wanted} more are asked for." if not call.is_shortened_to_fit else "."),
                "max_tokens" if room > 0 else None,
            )
        return wanted

    def _echo(self, call: GenerationCall, request: GenerationRequest, index: int) -> str:
        if not call.echo:
            return ""
        return echo_text(self.tokenizer, call.prompts[index // call.n], request.prompt_ids)

    async def _submit(self, requests: list[GenerationRequest]) -> list[TokenStream]:
        """All or nothing: sequences that were queued before one is refused are aborted."""
        streams: list[TokenStream] = []
        try:
            for request in requests:
                streams.append(self._engine.submit(request))
        except BaseException:
            for stream in streams:
                await stream.aclose()
            raise
        return streams
