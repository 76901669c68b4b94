"""The real engine over a model of the device: every row is checked for whose KV it reads.

The fake runner keeps what each KV position holds and derives a sequence's next token from all it
can read, so a block given to two sequences, a stale slot or a lost position changes the tokens.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from zlib import crc32

from service.adapters.residency import Residency
from service.core import (
    NO_SLOT,
    AdapterRef,
    FinishReason,
    GenerationRequest,
    MemoryTier,
    SamplingParams,
    Timeline,
    TokenEvent,
    TokenLogprob,
)
from service.engine.block_manager import BlockManager
from service.engine.cold import Load
from service.engine.engine import Engine, EngineParts
from service.engine.policy import scheduling_policy
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.engine.sequence import Sequence
from service.errors import RepertoireError
from service.step import ResidencyPlan, SampledToken, Segment, Step, StepResult

PAGE = 64


@dataclass(frozen=True)
class Budgets:
    num_blocks: int = 64
    block_size: int = 4
    max_num_seqs: int = 8
    max_num_batched_tokens: int = 16
    max_mixed_prefill_tokens: int | None = 5
    max_overtakes: int = 3
    prefix_cache: bool = True
    chunked_prefill: bool = True
    device_pages: int = 4
    host_bytes: int = 6 * PAGE
    cold_load_timeout_s: float = 60.0
    policy: str = "fair"
    max_copied_bytes: int = 3 * PAGE
    num_loaders: int = 100
    double_position: float = math.inf


def ref(number: int, num_bytes: int = PAGE, **traits: object) -> AdapterRef:
    return AdapterRef(f"adapter{number}", 1, f"digest{number}", num_bytes, **traits)


Content = tuple[str, int, str | None]
"""What a KV position is made of: token, virtual embedding or learned prefix; number; adapter."""


def front_of(request: GenerationRequest) -> list[Content]:
    adapter = request.adapter
    if adapter is None:
        return []
    first = request.task_id * adapter.num_virtual_tokens
    virtual = [("virtual", first + i, adapter.digest) for i in range(adapter.num_virtual_tokens)]
    return [("prefix", i, adapter.digest) for i in range(adapter.num_prefix_tokens)] + virtual


def contents(request: GenerationRequest, output_ids: tuple[int, ...] = ()) -> tuple[Content, ...]:
    """Every position of a sequence as it has to be, told anew without the engine's own code."""
    adapter, prompt = request.adapter, request.prompt_ids
    wanted = adapter.invocation_tokens if adapter else ()
    starts = [i for i in range(len(prompt)) if prompt[i : i + len(wanted)] == wanted]
    first = len(prompt) + len(output_ids)
    if adapter and starts:
        first = starts[-1] if wanted else 0
    tokens = [
        ("token", token_id, adapter.digest if adapter and index >= first else None)
        for index, token_id in enumerate((*prompt, *output_ids))
    ]
    return (*front_of(request), *tokens)


def next_token(held: tuple[Content, ...]) -> int:
    return 3 + crc32(repr(held).encode()) % 90


def expected_tokens(request: GenerationRequest, count: int) -> tuple[int, ...]:
    """What a sequence gets when it is alone."""
    token_ids: tuple[int, ...] = ()
    for _ in range(count):
        token_ids += (next_token(contents(request, token_ids)),)
    return token_ids


def prompt_logprob(held: tuple[Content, ...], token_id: int) -> TokenLogprob:
    return TokenLogprob(token_id, -float(next_token(held)))


@dataclass
class FakePool:
    """Where adapters are, according to the plans alone."""

    hosts: set[str] = field(default_factory=set)
    slots: dict[int, str] = field(default_factory=dict)
    refs: dict[str, AdapterRef] = field(default_factory=dict)

    def insert_host(self, digest: str, adapter: object) -> None:
        self.hosts.add(digest)

    def apply(self, plan: ResidencyPlan) -> None:
        for slot in plan.evicted_slots:
            del self.slots[slot]
        for load in plan.loads:
            assert load.digest in self.hosts, "a copy needs a source"
            assert load.digest not in self.slots.values(), "one slot per digest"
            assert load.slot not in self.slots, "the slot is free"
            self.slots[load.slot] = load.digest
        for digest in plan.evicted_hosts:
            self.hosts.remove(digest)

    def wait_for(self, slots: Iterable[int]) -> None:
        for slot in set(slots) - {NO_SLOT}:
            assert slot in self.slots, "a step reads what is there"


@dataclass
class FakeRunner:
    pool: FakePool
    blocks: BlockManager
    budgets: Budgets
    requests: dict[str, GenerationRequest]
    """Those that were added by hand."""
    steps: list[Step] = field(default_factory=list)
    error: BaseException | None = None
    kept: set[str] = field(default_factory=set)
    """Sequences of which a lane may keep something beside the blocks."""
    _kv: dict[int, Content] = field(default_factory=dict)

    def prepare(self) -> None:
        """Nothing gets faster."""

    def forget(self, request_id: str) -> None:
        self.kept.discard(request_id)

    def run(self, step: Step) -> StepResult:
        if self.error is not None:
            raise self.error
        self._check(step)
        self.steps.append(step)
        self.kept |= {one.request_id for one in step.segments}
        self._write_prefixes(step)
        virtual = {one.row: one for one in step.virtual_rows}
        owner = {
            segment.first_row + offset: (segment, segment.context_len + offset)
            for segment in step.segments
            for offset in range(segment.num_rows)
        }
        for row, (segment, position) in owner.items():
            content = ("token", step.token_ids[row], self._digest(step.row_slot[row]))
            if row in virtual:
                assert step.token_ids[row] == 0
                assert step.row_slot[row] == virtual[row].slot
                content = ("virtual", virtual[row].index, self._digest(virtual[row].slot))
            assert step.positions[row] == position
            self._write(segment.block_table, position, content)
        return StepResult(
            [SampledToken(next_token(self._read(*owner[one.row])), None) for one in step.samples],
            [
                prompt_logprob(self._read(*owner[one.row]), one.token_id)
                for one in step.prompt_scores
            ],
        )

    def _write_prefixes(self, step: Step) -> None:
        for write in step.prefix_writes:
            digest = self._digest(write.slot)
            for position in range(self.pool.refs[digest].num_prefix_tokens):
                self._write(write.block_table, position, ("prefix", position, digest))

    def _write(self, block_table: list[int], position: int, content: Content) -> None:
        place = self._place(block_table, position)
        assert self.blocks.is_writable(place // self.budgets.block_size), "others read this block"
        self._kv[place] = content

    def _read(self, segment: Segment, position: int) -> tuple[Content, ...]:
        held = tuple(self._kv[self._place(segment.block_table, one)] for one in range(position + 1))
        if segment.request_id in self.requests:
            known = contents(self.requests[segment.request_id])
            assert held[: len(known)] == known[: len(held)], "KV of something else"
        return held

    def _place(self, block_table: list[int], position: int) -> int:
        size = self.budgets.block_size
        return block_table[position // size] * size + position % size

    def _digest(self, slot: int) -> str | None:
        return None if slot == NO_SLOT else self.pool.slots[slot]

    def _check(self, step: Step) -> None:
        rows = [one.first_row for one in step.segments]
        assert (
            rows == list(itertools.accumulate([0, *(one.num_rows for one in step.segments)]))[:-1]
        )
        assert sum(one.num_rows for one in step.segments) == len(step.token_ids)
        assert len(step.positions) == len(step.row_slot) == len(step.token_ids)
        decode = step.segments[: step.num_decode]
        assert all(one.num_rows == 1 for one in decode)
        slots = [step.row_slot[one.first_row] for one in decode]
        assert slots == sorted(slots)
        assert len({one.request_id for one in step.segments}) == len(step.segments)
        assert len(step.segments) <= self.budgets.max_num_seqs
        assert all(one.end <= one.final_len for one in step.segments)
        prefill = len(step.token_ids) - step.num_decode
        limit = self.budgets.max_num_batched_tokens - step.num_decode
        if step.num_decode and self.budgets.max_mixed_prefill_tokens:
            limit = min(limit, self.budgets.max_mixed_prefill_tokens)
        if self.budgets.chunked_prefill:
            assert prefill <= max(0, limit)
        else:
            assert prefill <= limit or len(step.segments) == step.num_decode + 1


@dataclass
class FakeLoader:
    """Loads end when the test says so."""

    num_threads: int = 100
    pending: dict[str, AdapterRef] = field(default_factory=dict)
    num_started: Counter[str] = field(default_factory=Counter)

    def start(self, ref: AdapterRef, done: object) -> None:
        assert ref.digest not in self.pending, "one flight per digest"
        self.pending[ref.digest] = ref
        self.num_started[ref.digest] += 1

    def close(self) -> None: ...


@dataclass
class Outcome:
    request: GenerationRequest
    token_ids: tuple[int, ...] = ()
    num_cached: int | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    num_events: int = 0
    timelines: list[Timeline] = field(default_factory=list)
    """Of its events that carry one: the first token's and the last."""


class Machine:
    """An engine driven by hand; `check` states what holds between any two operations."""

    def __init__(self, **budgets: Any) -> None:
        self.budgets = Budgets(**budgets)
        one = self.budgets
        self.residency = Residency(one.device_pages * PAGE, one.host_bytes, page_bytes=PAGE)
        self.blocks = BlockManager(one.num_blocks, one.block_size, one.prefix_cache)
        config = SchedulerConfig(
            one.max_num_seqs,
            one.max_num_batched_tokens,
            one.max_mixed_prefill_tokens,
            one.max_overtakes,
            one.chunked_prefill,
            one.max_copied_bytes,
            double_position=one.double_position,
        )
        policy = scheduling_policy(one.policy)
        self.scheduler = Scheduler(config, self.blocks, self.residency, policy)
        self.pool = FakePool()
        self.requests: dict[str, GenerationRequest] = {}
        self.runner = FakeRunner(self.pool, self.blocks, one, self.requests)
        self.loader = FakeLoader(one.num_loaders)
        self.parts = EngineParts(
            scheduler=self.scheduler,
            blocks=self.blocks,
            residency=self.residency,
            pool=self.pool,
            runner=self.runner,
            loader=self.loader,
            eos_token_ids=frozenset([2]),
            cold_load_timeout_s=one.cold_load_timeout_s,
            observe_load=lambda *one: self.brought.append(one),
        )
        self.brought: list[tuple[str, float]] = []
        self.unawaited: list[Load] = []
        self.engine = Engine(
            self.parts, lambda *result: None, self.unawaited.append, clock=monotonic
        )
        self.outcomes: dict[str, Outcome] = {}
        self._numbers = itertools.count()

    @property
    def open_ids(self) -> list[str]:
        return [key for key, one in self.outcomes.items() if one.finish_reason is None]

    def add(
        self,
        num_prompt: int = 3,
        adapter: AdapterRef | None = None,
        task_id: int = 0,
        family: int | None = None,
        prompt: tuple[int, ...] = (),
        max_cold_s: float | None = None,
        tenant: str = "default",
        priority: int = 0,
        **params: object,
    ) -> str:
        """Prompts of one `family` begin alike; without one every prompt is another."""
        number = next(self._numbers)
        first = 7 * (number if family is None else family)
        prompt = prompt or tuple(3 + (first + one) % 90 for one in range(num_prompt))
        options = {"max_tokens": 4} | params
        request = GenerationRequest(
            f"r{number}",
            prompt,
            SamplingParams(**options),
            adapter,
            task_id=task_id,
            max_cold_s=max_cold_s,
            tenant=tenant,
            priority=priority,
        )
        if adapter is not None:
            self.pool.refs[adapter.digest] = adapter
        self.outcomes[request.request_id] = Outcome(request)
        self.requests[request.request_id] = request
        self.take(self.engine.add(request))
        return request.request_id

    def warm(
        self, adapter: AdapterRef, tier: MemoryTier = "host", max_cold_s: float | None = None
    ) -> str:
        request = GenerationRequest(
            f"w{next(self._numbers)}",
            (),
            SamplingParams(max_tokens=0),
            adapter,
            load_into=tier,
            max_cold_s=max_cold_s,
        )
        self.pool.refs[adapter.digest] = adapter
        self.outcomes[request.request_id] = Outcome(request)
        self.take(self.engine.add(request))
        return request.request_id

    def pin(self, *refs: AdapterRef) -> None:
        self.pool.refs |= {one.digest: one for one in refs}
        self.take(self.engine.pin(refs))

    def step(self) -> None:
        self.take(self.engine.step())

    def abort(self, request_id: str) -> None:
        events = self.engine.abort(request_id)
        self.outcomes[request_id].finish_reason = FinishReason.ABORT
        self.take(events)

    def unload(self, digest: str) -> None:
        self.take(self.engine.unload(digest))

    def finish_load(self, digest: str, error: RepertoireError | None = None) -> None:
        self.loader.pending.pop(digest)
        self.take(self.engine.finish_load(digest, error or object(), 0.1))

    def run(self, max_steps: int = 2000) -> None:
        """To the end, as the engine's thread would: it steps only while there is work."""
        for _ in range(max_steps):
            for digest in list(self.loader.pending):
                self.finish_load(digest)
            if self.engine.has_work:
                self.step()
            elif not self.loader.pending:
                break
            self.check()
        assert not self.open_ids, "sequences are lost or stuck"

    def take(self, events: list[TokenEvent]) -> None:
        for event in events:
            outcome = self.outcomes[event.request_id]
            assert outcome.finish_reason is None, "nothing follows the end"
            is_first, outcome.num_events = outcome.num_events == 0, outcome.num_events + 1
            is_told = outcome.request.max_cold_s is not None and not outcome.request.load_into
            if is_first and event.error is None and is_told:
                assert event == TokenEvent(event.request_id), "first it says that it is warm"
                continue
            outcome.token_ids += event.token_ids
            if event.prompt_logprobs is not None:
                assert outcome.prompt_logprobs is None, "reported once"
                outcome.prompt_logprobs = event.prompt_logprobs
            if event.num_cached_tokens is not None:
                assert outcome.num_cached is None, "reported once"
                outcome.num_cached = event.num_cached_tokens
            outcome.finish_reason, outcome.error = event.finish_reason, event.error
            if event.timeline is not None:
                outcome.timelines.append(event.timeline)

    def check(self) -> None:
        self._check_places()
        self._check_activity()
        self._check_blocks()
        self._check_pins()
        self._check_device()
        assert self.runner.kept <= {one.request_id for one in self.scheduler.running}

    def check_empty(self) -> None:
        """Nobody is left, so nothing may be in use but what is pinned."""
        assert self.blocks.num_used == 0
        assert not self.residency.device._pins
        assert set(self.residency.host._pins) == self.residency._kept
        assert not self.engine._sequences
        stats = self.engine.stats
        assert (stats.num_running, stats.num_waiting, stats.num_cold) == (0, 0, 0)
        assert stats.kv_blocks_used == 0

    def check_outputs(self) -> None:
        """Whoever ended by itself got what it gets alone."""
        for outcome in self.outcomes.values():
            if outcome.finish_reason is not FinishReason.LENGTH:
                continue
            request = outcome.request
            assert outcome.token_ids == expected_tokens(request, request.params.max_tokens)
            assert outcome.num_cached is not None
            assert 0 <= outcome.num_cached < len(request.prompt_ids)
            if request.params.prompt_logprobs is not None:
                assert outcome.prompt_logprobs == expected_scores(request)

    def _check_places(self) -> None:
        cold = self.engine._cold.sequences()
        warming = list(self.engine._warming)
        places = [*cold, *warming, *self.scheduler.waiting, *self.scheduler.running]
        assert sorted(one.request_id for one in places) == sorted(self.open_ids)
        assert set(self.engine._sequences) == set(self.open_ids)

    def _check_activity(self) -> None:
        shown, stats = self.engine.activity.snapshot(), self.engine.stats
        places = (self.scheduler.running, self.scheduler.waiting, self.engine._cold.sequences())
        counts = (shown.running, shown.waiting, shown.cold)
        for sequences, count in zip(places, counts, strict=True):
            assert count == Counter(map(_use_of, sequences))
        sums = tuple(sum(count.values()) for count in counts)
        assert sums == (stats.num_running, stats.num_waiting, stats.num_cold)
        assert stats.num_loading == len(self.loader.pending)

    def _check_blocks(self) -> None:
        blocks, running = self.blocks, self.scheduler.running
        held = Counter(block for one in running for block in one.block_table)
        places = sorted([*held, *blocks._free, *blocks._idle])
        assert places == list(range(blocks.num_blocks)), "no block is lost or in two places"
        assert blocks._num_holders == [held[block] for block in range(blocks.num_blocks)]
        assert blocks.num_used == len(held)
        assert all(len(set(one.block_table)) == len(one.block_table) for one in running)
        assert not any(one.block_table for one in self.scheduler.waiting)
        self._check_cache()

    def _check_cache(self) -> None:
        cache = self.blocks._cache
        if cache is None:
            assert not self.blocks._idle
            assert not any(holders > 1 for holders in self.blocks._num_holders)
            return
        assert set(self.blocks._idle) <= set(cache._keys)
        assert not set(self.blocks._free) & set(cache._keys)
        assert {block: key for key, block in cache._blocks.items()} == cache._keys

    def _check_pins(self) -> None:
        running = Counter(one.adapter.digest for one in self.scheduler.running if one.adapter)
        assert self.residency.device._pins == running
        holding = Counter(_held([*self.scheduler.waiting, *self.engine._warming]))
        holding.update(self.residency._loading)
        holding.update(self.residency._kept)
        assert self.residency._kept <= set(self.engine._pins._wanted)
        assert self.residency.host._pins == holding
        assert self.residency._loading == set(self.loader.pending)
        for one in self.scheduler.running:
            assert self.pool_slot(one) == (one.adapter and one.adapter.digest)

    def pool_slot(self, sequence: Sequence) -> str | None:
        return None if sequence.slot == NO_SLOT else self.pool.slots[sequence.slot]

    def _check_device(self) -> None:
        slots = self.residency._slots
        numbers = [slot for slot, _ in slots.values()]
        assert len(set(numbers)) == len(numbers)
        taken = [extent for _, extent in slots.values()]
        extents = sorted([*taken, *self.residency._arena._free])
        ends = list(itertools.accumulate([0, *(one.num_bytes for one in extents)]))
        assert [one.offset for one in extents] == ends[:-1]
        assert ends[-1] == self.residency._arena.num_bytes
        known = {one for one in self.residency.host if self.residency.is_in_host(one)} | set(slots)
        tiers = {one: "device" if one in slots else "host" for one in known}
        assert self.residency.resident() == tiers
        for tier in (self.residency.device, self.residency.host):
            assert tier.num_unpinned_bytes == tier.budget_bytes - sum(map(tier.size_of, tier._pins))
            assert 0 <= tier.num_bytes <= tier.budget_bytes
            assert tier.num_bytes == sum(map(tier.size_of, tier))


def _use_of(sequence: Sequence) -> tuple[str, str, int]:
    tenant, adapter = sequence.request.tenant, sequence.adapter
    if adapter is None or adapter.parts:
        return (tenant, "", 0)
    return (tenant, adapter.name, adapter.version)


def _held(sequences: object) -> list[str]:
    return [one.adapter.digest for one in sequences if one.holds_host]


def expected_scores(request: GenerationRequest) -> tuple[TokenLogprob | None, ...]:
    held, prompt = contents(request), request.prompt_ids
    num_front = len(held) - len(prompt)
    return (
        None,
        *(prompt_logprob(held[: num_front + at], prompt[at]) for at in range(1, len(prompt))),
    )
