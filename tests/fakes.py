"""Honest stand-ins: classes with the real interfaces, deterministic, that record what happened."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from service.adapters.backends.records import Record
from service.adapters.backends.usage import Rows, Usage, UsageKey, add_row
from service.base import BaseDescription
from service.core import (
    AdapterRef,
    EngineStats,
    FinishReason,
    GenerationRequest,
    TierStats,
    Timeline,
    TokenEvent,
    TokenLogprob,
)
from service.engine.activity import Activity
from service.errors import ColdLoadTimeout, Draining, InvalidRequest, ModelNotFound
from service.handlers.models import ModelEntry
from service.tenancy import Principal
from service.text import TextForm

BOS, EOS = 256, 257


class ByteTokenizer:
    """One token per byte; ids from 256 on are special."""

    vocab_size = 300
    eos_token_ids = frozenset({EOS})

    def __init__(self, has_chat_template: bool = True) -> None:
        self._has_chat_template = has_chat_template

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return ([BOS] if add_special_tokens else []) + list(text.encode())

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        raw = b"".join(
            bytes([one]) if one < 256 else b"" if skip_special_tokens else b"<%d>" % one
            for one in ids
        )
        return raw.decode(errors="replace")

    def is_special(self, token_id: int) -> bool:
        return token_id >= 256

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b"<%d>" % token_id

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        if not self._has_chat_template:
            raise InvalidRequest("The base model has no chat template.", "messages")
        return "".join(f"{one['role']}: {one['content']}\n" for one in messages)


@dataclass(slots=True)
class FakeTexts:
    """The base's form for everything but the digests in `own`."""

    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    own: dict[str, TextForm] = field(default_factory=dict)

    async def form_of(self, adapter: AdapterRef | None) -> TextForm:
        base = TextForm(self.tokenizer)
        return base if adapter is None else self.own.get(adapter.digest, base)


def reply_text(request: GenerationRequest) -> str:
    """Names the adapter, so that a test sees who answered."""
    who = "base" if request.adapter is None else f"{request.adapter.name}"
    return f"I am {who}, choice {request.choice}."


@dataclass(slots=True)
class FakeEngine:
    """One token per event. `reply` decides the text; after it comes EOS."""

    reply: Callable[[GenerationRequest], str | bytes] = reply_text
    seconds_per_token: float = 0.0
    first_token: asyncio.Event | None = None
    """Withholds every token until it is set: a queue, or a cold load."""
    submit_error: Exception | None = None
    end_error: Exception | None = None
    """Ends every sequence that still runs."""
    error_after: tuple[int, Exception] | None = None
    """(tokens, error): fails every sequence after that many tokens."""
    cold: set[str] = field(default_factory=set)
    """Digests that no load ever brings into memory."""
    is_healthy: bool = True
    max_sequences: int | None = None
    max_sequences_error: Exception | None = None
    pinned: tuple[AdapterRef, ...] = ()
    resident: dict[str, str] = field(default_factory=dict)
    shown: Activity = field(default_factory=Activity)
    submitted: list[GenerationRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    num_tokens: dict[str, int] = field(default_factory=dict)
    num_cached_tokens: Callable[[GenerationRequest], int] = lambda request: 0
    tier: str = "device"
    load_seconds: Callable[[GenerationRequest], float] = lambda request: 0.0
    """What timelines say that it took, though nothing is waited for."""

    def submit(self, request: GenerationRequest) -> "FakeStream":
        if self.submit_error is not None:
            raise self.submit_error
        if self.max_sequences is not None and len(self.submitted) >= self.max_sequences:
            assert self.max_sequences_error is not None
            raise self.max_sequences_error
        self.submitted.append(request)
        return FakeStream(self, request)

    def unload(self, digest: str) -> None:
        raise NotImplementedError

    def pin(self, refs: Iterable[AdapterRef]) -> None:
        self.pinned = tuple(refs)

    def cut_off(self) -> None:
        """Streams notice at their next token, which is at once where none comes."""
        self.submit_error = self.end_error = Draining("The server is shutting down.")
        if self.first_token is not None:
            self.first_token.set()

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self.submitted) - len(self.closed),
            tiers=dict.fromkeys(("device", "host", "disk"), TierStats()),
            resident=dict(self.resident),
            resident_revision=len(self.resident),
        )

    def activity(self) -> Activity:
        return self.shown


class FakeStream:
    def __init__(self, engine: FakeEngine, request: GenerationRequest) -> None:
        self._engine = engine
        self._request = request
        self._tokens = self._planned_tokens()
        self._timeline = engine_timeline(engine, request)
        self._num_sent = 0
        self._was_warm = False
        self._is_ended = False

    def __aiter__(self) -> "FakeStream":
        return self

    async def __anext__(self) -> TokenEvent:
        if self._is_ended:
            raise StopAsyncIteration
        engine = self._engine
        is_limited = self._request.max_cold_s is not None or self._request.load_into is not None
        if is_limited and not self._was_warm:
            return await self._warm_up()
        if engine.first_token is not None:
            await engine.first_token.wait()
        await asyncio.sleep(engine.seconds_per_token)
        event = self._stamped(self._next_event())
        self._is_ended = event.is_terminal
        engine.num_tokens[self._request.request_id] = self._num_sent
        return event

    async def _warm_up(self) -> TokenEvent:
        """The event that says whether the adapter is there."""
        request_id, adapter = self._request.request_id, self._request.adapter
        self._was_warm = True
        if adapter is None or adapter.digest not in self._engine.cold:
            self._is_ended = self._request.load_into is not None
            return TokenEvent(
                request_id, finish_reason=FinishReason.STOP if self._is_ended else None
            )
        await asyncio.sleep(self._request.max_cold_s or 0)
        self._is_ended = True
        error = ColdLoadTimeout("The adapter was not in memory in time.", 3)
        return TokenEvent(request_id, finish_reason=FinishReason.ERROR, error=error)

    async def aclose(self) -> None:
        request_id = self._request.request_id
        if request_id in self._engine.closed:
            return
        self._engine.closed.append(request_id)
        if not self._is_ended:
            self._engine.aborted.append(request_id)
        self._is_ended = True

    def _stamped(self, event: TokenEvent) -> TokenEvent:
        is_first = self._timeline.first_token is None
        if event.error is None:
            now = time.monotonic()
            self._timeline = replace(self._timeline, last_token=now)
            if is_first:
                self._timeline = replace(self._timeline, first_token=now)
        return replace(event, timeline=self._timeline) if is_first or event.is_terminal else event

    def _planned_tokens(self) -> list[int]:
        text = self._engine.reply(self._request)
        raw = text if isinstance(text, bytes) else text.encode()
        ending = [] if self._request.params.ignore_eos else [EOS]
        return [*raw, *ending]

    def _next_event(self) -> TokenEvent:
        request, params, failure = self._request, self._request.params, self._engine.error_after
        if failure is not None and self._num_sent >= failure[0]:
            return TokenEvent(
                request.request_id, finish_reason=FinishReason.ERROR, error=failure[1]
            )
        if self._engine.end_error is not None:
            return TokenEvent(
                request.request_id, finish_reason=FinishReason.ERROR, error=self._engine.end_error
            )
        is_first = self._num_sent == 0
        prompt_logprobs = self._prompt_logprobs() if is_first else None
        num_cached = self._engine.num_cached_tokens(request) if is_first else None
        if params.max_tokens == 0:
            return TokenEvent(
                request.request_id,
                prompt_logprobs=prompt_logprobs,
                finish_reason=FinishReason.LENGTH,
                num_cached_tokens=num_cached,
            )
        token = self._tokens[self._num_sent % len(self._tokens)]
        self._num_sent += 1
        return TokenEvent(
            request.request_id,
            (token,),
            () if params.logprobs is None else (logprob(token, params.logprobs),),
            prompt_logprobs,
            self._finish_reason(token),
            num_cached_tokens=num_cached,
        )

    def _finish_reason(self, token: int) -> FinishReason | None:
        params = self._request.params
        if token in params.stop_token_ids or (token == EOS and not params.ignore_eos):
            return FinishReason.STOP
        return FinishReason.LENGTH if self._num_sent >= params.max_tokens else None

    def _prompt_logprobs(self) -> tuple[TokenLogprob | None, ...] | None:
        num_top = self._request.params.prompt_logprobs
        if num_top is None:
            return None
        return (None, *(logprob(one, num_top) for one in self._request.prompt_ids[1:]))


def engine_timeline(engine: FakeEngine, request: GenerationRequest) -> Timeline:
    """Of a sequence that was loaded, queued for 2 ms and has no token yet."""
    now, seconds = time.monotonic(), engine.load_seconds(request)
    tier = "" if request.adapter is None else engine.tier
    return Timeline(now - 0.002 - seconds, tier, in_memory=now - 0.002, admitted=now)


def logprob(token_id: int, num_top: int) -> TokenLogprob:
    top = tuple(((token_id + i) % 256, -0.25 - i) for i in range(num_top))
    return TokenLogprob(token_id, -0.25, top)


class FakeRegistry:
    """Names with one or more versions; counts who holds what."""

    def __init__(self, *refs: AdapterRef) -> None:
        self._by_model = {f"{ref.name}@{ref.version}": ref for ref in refs}
        self._by_model |= {ref.name: ref for ref in refs}
        self.acquired: list[AdapterRef] = []
        self.released: list[AdapterRef] = []
        self.keys: list[str | None] = []

    def acquire(self, principal: Principal, model: str, key: str | None = None) -> AdapterRef:
        self.keys.append(key)
        if model not in self._by_model:
            raise ModelNotFound(model)
        self.acquired.append(self._by_model[model])
        return self._by_model[model]

    def release(self, ref: AdapterRef) -> None:
        self.released.append(ref)

    def list_models(self, principal: Principal) -> list[ModelEntry]:
        names = (model for model in self._by_model if "@" not in model)
        return [self.find_model(principal, model) for model in names]

    def find_model(self, principal: Principal, model: str) -> ModelEntry:
        if model not in self._by_model:
            raise ModelNotFound(model)
        ref = self._by_model[model]
        return ModelEntry(model, 1_700_000_000, "tiny", ref.version, ref.digest)


@dataclass(slots=True)
class FakePlaces:
    """What a disk has, and what is pinned for whom."""

    on_disk: list[str] = field(default_factory=list)
    held: dict[str, set[str]] = field(default_factory=dict)
    revision: int = 0

    def digests(self) -> list[str]:
        return list(self.on_disk)

    def holds(self, name: str, digest: str) -> bool:
        return digest in self.held.get(name, ())


class MemoryLogs:
    """`RecordLogs` that a restart forgets; records go through JSON as those of files do."""

    def __init__(self) -> None:
        self._logs: dict[str, list[str]] = {}

    def names(self, prefix: str) -> list[str]:
        names = (log for log in self._logs if log.startswith(f"{prefix}/"))
        return sorted(log.removeprefix(f"{prefix}/") for log in names)

    def lengths(self, prefix: str) -> dict[str, int]:
        return {name: len(self._logs[f"{prefix}/{name}"]) for name in self.names(prefix)}

    def read(self, log: str, start: int = 0) -> list[Record]:
        return [json.loads(record) for record in self._logs.get(log, [])[start:]]

    def append(self, log: str, number: int, record: Record) -> None:
        records = self._logs.setdefault(log, [])
        if number < len(records):
            raise FileExistsError(log)
        assert number == len(records), "a gap"
        records.append(json.dumps(record))


class MemoryUsage:
    """`UsageStore` that a restart forgets."""

    def __init__(self) -> None:
        self.days: dict[date, dict[UsageKey, Usage]] = {}
        self.error: Exception | None = None
        """Raised by `add`, which has added nothing then."""

    def add(self, day: date, rows: Rows) -> None:
        if self.error is not None:
            raise self.error
        for key, usage in rows.items():
            add_row(self.days.setdefault(day, {}), key, usage, max_rows=1000)

    def read(self, day: date) -> Rows:
        return dict(self.days.get(day, {}))


@dataclass(slots=True)
class FakeOwners:
    """Which tenants have adapters, and which only deleted ones."""

    owners: set[str] = field(default_factory=set)
    former: set[str] = field(default_factory=set)

    def owns(self, tenant: str, *, with_deleted: bool) -> bool:
        return tenant in self.owners or (with_deleted and tenant in self.former)


def adapter_ref(name: str, version: int = 1, is_summable: bool = False) -> AdapterRef:
    digest = f"{version:02d}" * 32
    return AdapterRef(name, version, digest, compiled_bytes=1024, is_summable=is_summable)


def base_description(name: str = "tiny", max_model_len: int = 128) -> BaseDescription:
    return BaseDescription(
        name=name,
        folder="/nowhere/that/a/client/may/see",
        fingerprint="ab" * 32,
        architecture="LlamaForCausalLM",
        dtype="float32",
        vocab_size=300,
        max_model_len=max_model_len,
        lane="ragged",
        kv_layers=(),
        output_module="lm_head",
        sites=(),
        modules=(),
    )
