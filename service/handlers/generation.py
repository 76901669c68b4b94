"""The use case of every completion: bind an adapter version, submit, turn events into text.

Knows no HTTP. An `Answer` owns what it took (the adapter version, the engine's sequences) until
`aclose`, which gives everything back exactly once whatever happened in between.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from service.base import BaseDescription
from service.core import AdapterRef, GenerationRequest, SamplingParams
from service.engine.client import EngineClient, TokenStream
from service.errors import ColdLoadTimeout, InvalidRequest, PromptTooLong
from service.handlers.accounting import (
    AnswerSink,
    AnswerSummary,
    Outcome,
    hand_out,
    token_metrics,
)
from service.handlers.answer import Answer
from service.handlers.binding import AdapterBinder, Registry, Summand
from service.handlers.choice import ChoiceText
from service.handlers.merge import MergedStreams, wait_until_warm
from service.handlers.priority import check_priority
from service.handlers.prompts import (
    Prompt,
    check_token_ids,
    echo_text,
    encode_prompts,
    max_prompt_chars,
)
from service.handlers.quotas import Admission, QuotaGuard
from service.metrics import Metrics
from service.tenancy import Principal
from service.text import TextForm, TextSource

MAX_SEQUENCES = 128
"""Prompts times choices of one request."""

_COUNTED = (InvalidRequest, ColdLoadTimeout, asyncio.CancelledError)
"""Whoever ends so has been worked for, or has gone by itself: it stays a request of its tenant."""


@dataclass(frozen=True, slots=True)
class GenerationCall:
    """A validated request, free of its wire format."""

    request_id: str
    model: str
    prompts: tuple[Prompt, ...]
    params: SamplingParams
    principal: Principal
    """Whom it is computed for and accounted to."""
    is_shortened_to_fit: bool = False
    """`max_tokens` is a default, so that a long prompt may leave room for fewer tokens."""
    adapters: tuple[Summand, ...] = ()
    """Of a weighted sum on the base, which `model` names then."""
    n: int = 1
    stop: tuple[str, ...] = ()
    echo: bool = False
    task_id: int | None = None
    """Which task of a multitask adapter; other models have none."""
    priority: int | None = None
    """Lower is earlier; None = as urgent as the key allows, but no more than 0."""
    max_cold_s: float | None = None
    """How long it waits at most for its adapter to be loaded; None = as long as the server lets."""
    cold_fallback: str | None = None
    """The model that answers when that was not enough."""
    is_fallback: bool = False
    sticky_key: str = ""
    """Whoever has it stays on one version of a weighted alias; without one, chance decides."""
    arrived: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""


Bound = tuple[GenerationCall, AdapterRef | None]
"""A call with the version that was chosen for it; None is the base."""


def check_task_id(task_id: int | None, model: str, adapter: AdapterRef | None) -> int:
    """The task's number, 0 where there are no tasks; never a task that nobody asked for."""
    num_tasks = adapter.num_tasks if adapter else 0
    if num_tasks == 0:
        if task_id is not None:
            raise InvalidRequest(f"The model {model!r} has no tasks.", "task_id")
        return 0
    if task_id is None or not 0 <= task_id < num_tasks:
        raise InvalidRequest(
            f"The model {model!r} has {num_tasks} tasks: task_id must be 0 to {num_tasks - 1}.",
            "task_id",
        )
    return task_id


class GenerationHandler:
    def __init__(
        self,
        base: BaseDescription,
        texts: TextSource,
        registry: Registry,
        engine: EngineClient,
        metrics: Metrics,
        quotas: QuotaGuard,
        sinks: Sequence[AnswerSink] = (),
    ) -> None:
        self.base = base
        self._texts = texts
        self._binder = AdapterBinder(base.name, registry)
        self._engine = engine
        self._metrics = metrics
        self._sinks = (token_metrics(metrics), *sinks)
        self._quotas = quotas

    async def open(self, call: GenerationCall) -> Answer:
        """Accept the call and queue its sequences. The caller must close what it gets.

        With a limit to the load it returns once the adapter is in memory, or raises
        `ColdLoadTimeout` when that and the fallback, if there is one, are not in time.
        """
        check_priority(call.priority, call.principal)
        self._quotas.check_open(call.principal.tenant)
        adapter = self._acquire(call)
        bound: list[Bound] = [(call, adapter)]
        answer: Answer | None = None
        try:
            bound += self._bind_fallback(call, adapter)
            admission = await self._quotas.admit(call.principal.tenant)
            answer = await self._open_admitted(bound, admission)
            return answer
        finally:
            for one, ref in bound:
                if answer is None or one.is_fallback is not answer.is_fallback:
                    self._binder.release(ref)

    async def _open_admitted(self, bound: Sequence[Bound], admission: Admission) -> Answer:
        """The first of them that is in memory in time. Settles the admission when it fails."""
        try:
            for call, adapter in bound[:-1]:
                with suppress(ColdLoadTimeout):
                    return await self._open(call, adapter, admission)
            return await self._open(*bound[-1], admission)
        except BaseException as error:
            if isinstance(error, ColdLoadTimeout):
                hand_out(_unanswered(*bound[0]), self._sinks)
            await admission.settle(0 if isinstance(error, _COUNTED) else None)
            raise

    async def _open(
        self, call: GenerationCall, adapter: AdapterRef | None, admission: Admission
    ) -> Answer:
        _bind_log(adapter)
        task_id = check_task_id(call.task_id, call.model, adapter)
        form = await self._texts.form_of(adapter)
        call = _with_own_ends(call, form)
        encoded = await self._encode(call, form)
        call = self._within_quota(call, encoded)
        requests = [
            self._request(call, adapter, task_id, encoded[i // call.n], i)
            for i in range(len(encoded) * call.n)
        ]
        choices = [
            ChoiceText(i, request, form.tokenizer, call.stop, _echo(call, form, request, i))
            for i, request in enumerate(requests)
        ]
        num_prompt_tokens = sum(map(len, encoded))
        await admission.reserve(num_prompt_tokens + sum(one.params.max_tokens for one in requests))
        streams = await self._submit(requests)
        self._metrics.prompt_tokens.inc(num_prompt_tokens)
        return Answer(
            call.request_id,
            call.principal,
            call.model,
            adapter,
            form.tokenizer,
            num_prompt_tokens,
            choices,
            MergedStreams(streams),
            call.arrived,
            self._metrics,
            release=partial(self._binder.release, adapter),
            admission=admission,
            sinks=self._sinks,
            is_fallback=call.is_fallback,
        )

    def _acquire(self, call: GenerationCall) -> AdapterRef | None:
        return self._binder.acquire(
            call.model, call.adapters, call.sticky_key, principal=call.principal
        )

    def _bind_fallback(self, call: GenerationCall, adapter: AdapterRef | None) -> list[Bound]:
        """Bound and checked when the call is, needed or not; none when it would change nothing.

        It must be in memory itself: the call's limit has been waited for by then.
        """
        if call.cold_fallback is None:
            return []
        other = self._binder.acquire(
            call.cold_fallback,
            sticky_key=call.sticky_key,
            param="cold_fallback",
            principal=call.principal,
        )
        other_call = replace(
            call,
            model=call.cold_fallback,
            adapters=(),
            task_id=call.task_id if other is not None and other.num_tasks else None,
            max_cold_s=0.0,
            cold_fallback=None,
            is_fallback=True,
        )
        try:
            check_task_id(other_call.task_id, other_call.model, other)
        except BaseException:
            self._binder.release(other)
            raise
        if adapter is None or (other is not None and other.digest == adapter.digest):
            self._binder.release(other)
            return []
        return [(other_call, other)]

    async def _encode(self, call: GenerationCall, form: TextForm) -> list[tuple[int, ...]]:
        if len(call.prompts) * call.n > MAX_SEQUENCES:
            raise InvalidRequest(
                f"{len(call.prompts)} prompts with {call.n} choices each are more than "
                f"{MAX_SEQUENCES} sequences.",
                "n",
            )
        vocab_size = self.base.vocab_size
        check_token_ids([one for one, _ in call.params.logit_bias], vocab_size, "logit_bias")
        check_token_ids(call.params.stop_token_ids, vocab_size, "stop_token_ids")
        max_chars = max_prompt_chars(self.base.max_model_len)
        return await encode_prompts(form, call.prompts, vocab_size, max_chars)

    def _request(
        self,
        call: GenerationCall,
        adapter: AdapterRef | None,
        task_id: int,
        ids: tuple[int, ...],
        index: int,
    ) -> GenerationRequest:
        num_front = adapter.num_front_tokens if adapter else 0
        room = self.base.max_model_len - num_front - len(ids)
        if call.is_shortened_to_fit and room > 0:
            max_tokens = min(call.params.max_tokens, room)
        elif call.params.max_tokens <= room:
            max_tokens = call.params.max_tokens
        else:
            message = self._too_long(call, len(ids), num_front)
            raise PromptTooLong(message, "max_tokens" if room > 0 else None)
        return GenerationRequest(
            request_id=f"{call.request_id}-{'fallback-' * call.is_fallback}{index}",
            prompt_ids=ids,
            params=replace(call.params, max_tokens=max_tokens),
            adapter=adapter,
            choice=index % call.n,
            task_id=task_id,
            tenant=call.principal.tenant,
            priority=check_priority(call.priority, call.principal),
            max_cold_s=None if adapter is None else call.max_cold_s,
        )

    def _within_quota(
        self, call: GenerationCall, encoded: Sequence[tuple[int, ...]]
    ) -> GenerationCall:
        """A `max_tokens` that nobody asked for must not be what a tenant's limit fails at."""
        most = self._quotas.tokens_per_minute(call.principal.tenant)
        if most is None or not call.is_shortened_to_fit:
            return call
        room = (most - sum(map(len, encoded))) // (len(encoded) * call.n)
        max_tokens = min(call.params.max_tokens, max(room, 1))
        return replace(call, params=replace(call.params, max_tokens=max_tokens))

    def _too_long(self, call: GenerationCall, num_prompt: int, num_front: int) -> str:
        message = (
            f"The context is {self.base.max_model_len} tokens, but the prompt has {num_prompt}"
        )
        if num_front:
            message += f", the adapter puts {num_front} in front of it"
        if not call.is_shortened_to_fit:
            message += f" and {call.params.max_tokens} more are asked for"
        return message + "."

    async def _submit(self, requests: list[GenerationRequest]) -> list[TokenStream]:
        """All or nothing: sequences that were queued before one is refused are aborted."""
        streams: list[TokenStream] = []
        try:
            for request in requests:
                streams.append(self._engine.submit(request))
            for request, stream in zip(requests, streams, strict=True):
                if request.max_cold_s is not None:
                    await wait_until_warm(stream)
        except BaseException:
            for stream in streams:
                await stream.aclose()
            raise
        return streams


def _unanswered(call: GenerationCall, adapter: AdapterRef | None) -> AnswerSummary:
    """Of a call that waited for its adapter in vain: nothing of it was computed."""
    return AnswerSummary(
        principal=call.principal,
        request_id=call.request_id,
        adapter=adapter,
        num_prompt_tokens=0,
        num_cached_tokens=0,
        num_generated_tokens=0,
        outcome=Outcome.FAILED,
        seconds=time.monotonic() - call.arrived,
        seconds_to_first_token=None,
    )


def _bind_log(adapter: AdapterRef | None) -> None:
    """Log lines of the request name who answers."""
    structlog.contextvars.unbind_contextvars("adapter", "version")
    if adapter is not None:
        version = adapter.version or None
        structlog.contextvars.bind_contextvars(adapter=adapter.name, version=version)


def _echo(call: GenerationCall, form: TextForm, request: GenerationRequest, index: int) -> str:
    if not call.echo:
        return ""
    return echo_text(form.tokenizer, call.prompts[index // call.n], request.prompt_ids)


def _with_own_ends(call: GenerationCall, form: TextForm) -> GenerationCall:
    """The engine knows the base's end, not the adapter's."""
    if call.params.ignore_eos or not form.own_eos_ids:
        return call
    stop_token_ids = tuple(dict.fromkeys((*call.params.stop_token_ids, *form.own_eos_ids)))
    return replace(call, params=replace(call.params, stop_token_ids=stop_token_ids))
