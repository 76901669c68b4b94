"""The loop's body: schedule, place adapters, run, account. Single-threaded; knows no asyncio."""

import itertools
import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

from service.adapters.residency import Residency
from service.core import (
    AdapterRef,
    EngineStats,
    FinishReason,
    GenerationRequest,
    TierStats,
    TokenEvent,
)
from service.engine.activity import ActivityBoard
from service.engine.block_manager import BlockManager
from service.engine.cold import ColdQueue, Load, Wish
from service.engine.load_shares import LoadShares
from service.engine.loader import AdapterLoader, LoadCallback, LoadObserver, ignore
from service.engine.model_runner import ModelRunner
from service.engine.scheduler import Scheduler
from service.engine.sequence import Sequence, SequenceStatus
from service.engine.timelines import (
    mark_arrived,
    mark_cold,
    mark_found,
    mark_in_memory,
    mark_loaded,
    mark_started,
    stamp,
)
from service.engine.warming import Pins, WarmingQueue
from service.errors import (
    AdapterLoadFailed,
    ColdLoadTimeout,
    InvalidRequest,
    Overloaded,
    RepertoireError,
)
from service.model.host_adapter import HostAdapter
from service.model.pool import AdapterPool

NOBODY = ""
"""Whom the load of a pinned adapter counts for."""
_UNPIN_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class EngineParts:
    """What bootstrap puts together; the engine owns all of it from then on."""

    scheduler: Scheduler
    blocks: BlockManager
    residency: Residency
    pool: AdapterPool
    runner: ModelRunner
    loader: AdapterLoader
    eos_token_ids: frozenset[int]
    cold_load_timeout_s: float = 60.0
    lower_tiers: Callable[[], dict[str, TierStats]] = dict
    """Of the disk, and of the store where replicas share it."""
    observe_load: LoadObserver = ignore


class Engine:
    def __init__(
        self,
        parts: EngineParts,
        on_loaded: LoadCallback,
        on_unawaited: Callable[[Load], object] = id,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`on_loaded` is called on a loader thread and must lead to `finish_load` on this one;
        `on_unawaited` is told of a load that nobody waits for any more, so that no timeline has its
        bytes; `clock` gives seconds that never go back."""
        self._parts = parts
        self._scheduler = parts.scheduler
        self._residency = parts.residency
        self._pool = parts.pool
        self._runner = parts.runner
        self._cold = ColdQueue()
        self._shares = LoadShares(parts.residency, parts.loader.num_threads)
        self._warming = WarmingQueue(parts.residency)
        self._pins = Pins(parts.residency)
        self._on_loaded = on_loaded
        self._on_unawaited = on_unawaited
        self._clock = clock
        self._arrivals = itertools.count()
        self._revision = 0
        self._num_steps = self._num_prompt_tokens = self._num_generated_tokens = 0
        self._sequences: dict[str, Sequence] = {}
        self._stats = EngineStats(
            kv_blocks_total=parts.blocks.num_blocks, block_size=parts.blocks.block_size
        )
        waiting = parts.scheduler.waiting
        self.activity = ActivityBoard(
            parts.scheduler.running_tally, waiting.tally, self._cold.tally
        )
        self._take_stats()

    @property
    def stats(self) -> EngineStats:
        """Replaced as a whole after each change, so any thread may read it."""
        return self._stats

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def next_deadline(self) -> float | None:
        deadlines = (self._cold.next_deadline(), self._warming.next_deadline())
        return min((one for one in deadlines if one is not None), default=None)

    def step(self) -> list[TokenEvent]:
        """One forward pass; the events of the sequences that took part."""
        step = self._scheduler.schedule()
        mark_started(self._scheduler.take_started(), self._clock())
        for sequence in self._scheduler.take_cooled():
            self._wait_cold(sequence, self._clock())
        self._place()
        self._take_stats()  # A forward takes long, and is to be seen while it does.
        events: list[TokenEvent] = []
        if step is not None:
            self._pool.wait_for(step.row_slot)
            started = perf_counter()
            result = self._runner.run(step)
            self._scheduler.note_duration(perf_counter() - started)
            events = self._scheduler.postprocess(step, result)
            events = stamp(self._sequences, events, self._clock())
        for event in events:
            if event.is_terminal:
                del self._sequences[event.request_id]
        self._num_steps += step is not None
        self._num_generated_tokens += sum(len(event.token_ids) for event in events)
        return events + self._settle()

    def add(self, request: GenerationRequest) -> list[TokenEvent]:
        """Queue a sequence; the events say why when it can never run."""
        seed = request.params.seed
        sequence = Sequence(
            request,
            seed=secrets.randbits(63) if seed is None else seed,
            eos_token_ids=self._parts.eos_token_ids,
            arrival=next(self._arrivals),
        )
        self._sequences[request.request_id] = sequence
        self._num_prompt_tokens += len(request.prompt_ids)
        now = self._clock()
        mark_arrived(sequence, now)
        events: list[TokenEvent] = []
        if request.adapter is None:
            events = self._queue(sequence, now)
        else:
            events = self._add_adapted(sequence, request.adapter, now)
        events += self._settle()
        if sequence.status is SequenceStatus.COLD and sequence.deadline <= now:
            events += self._expire(now)  # after its load was started
        return events

    def abort(self, request_id: str) -> list[TokenEvent]:
        """Forget a sequence; its blocks and its slot are free at once. Unknown ids are ignored."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return []
        self._withdraw(sequence)
        return self._settle()

    def unload(self, digest: str) -> list[TokenEvent]:
        """Forget a version in every memory tier as soon as no sequence uses it."""
        self._residency.forget(digest)
        return self._settle()

    def pin(self, refs: Iterable[AdapterRef]) -> list[TokenEvent]:
        """Keep these versions, and no others, in host memory whether they are used or not."""
        self._pins.replace(refs)
        return self._settle()

    def finish_load(
        self, digest: str, result: HostAdapter | RepertoireError, seconds: float
    ) -> list[TokenEvent]:
        """A loader thread is done. A failure ends the requests of this version and no others."""
        load = self._cold.load_of(digest)
        waiting = self._cold.finish(digest)
        events: list[TokenEvent] = []
        if isinstance(result, RepertoireError):
            self._residency.fail_load(digest)
            self._pins.note_failure(digest)
            events = [self._fail(sequence, result) for sequence in waiting]
        else:
            self._pool.insert_host(digest, result)
            self._residency.finish_load(digest, seconds, num_holders=len(waiting))
            self._parts.observe_load("load", seconds)
            now = self._clock()
            for sequence in waiting[:1]:
                mark_loaded(sequence)
            if load is not None and load.tenant != NOBODY and not waiting:
                self._on_unawaited(load)
            for sequence in waiting:
                sequence.holds_host = True
                events += self._queue(sequence, now)
        return events + self._settle()

    def expire(self) -> list[TokenEvent]:
        """End the sequences that waited too long for their adapter or for its place."""
        return self._expire(self._clock())

    def _expire(self, now: float) -> list[TokenEvent]:
        expired = [*self._cold.expired(now), *self._warming.expired(now)]
        if not expired:
            return []
        errors = [self._too_cold(sequence) for sequence in expired]
        for sequence in expired:
            self._withdraw(sequence)
        events = [self._fail(*one) for one in zip(expired, errors, strict=True)]
        return events + self._settle()

    def _withdraw(self, sequence: Sequence) -> None:
        """Take it out of wherever it stands."""
        if sequence.status is SequenceStatus.COLD:
            self._cold.remove(sequence)
        elif sequence.status is SequenceStatus.WARMING:
            self._warming.remove(sequence)
        else:
            self._scheduler.remove(sequence)

    def _add_adapted(self, sequence: Sequence, ref: AdapterRef, now: float) -> list[TokenEvent]:
        if not self._residency.can_ever_hold(ref):
            is_kept_out = self._residency.is_kept_out(ref)
            return [self._fail(sequence, _kept_out(ref) if is_kept_out else _too_large(ref))]
        self._residency.revive(ref.digest)
        if sequence.request.load_into is None:
            mark_found(sequence, self._residency.count_lookup(ref.digest))
        if self._residency.is_resident(ref.digest):
            self._hold(sequence, ref)
            return self._queue(sequence, now)
        self._wait_cold(sequence, now)
        return []

    def _hold(self, sequence: Sequence, ref: AdapterRef) -> None:
        """Whoever holds too much already is loaded again if it is evicted before its turn."""
        tenant = sequence.request.tenant
        if self._shares.may_hold(ref, tenant) and self._residency.hold(ref.digest):
            sequence.holds_host = True
            self._shares.note_held(ref, tenant)

    def _queue(self, sequence: Sequence, now: float) -> list[TokenEvent]:
        """Whoever set a limit to its load is told, once, that the adapter is there."""
        mark_in_memory(sequence, now)
        if sequence.request.load_into is not None:
            # How long it may wait for its place began with the wait for its load.
            sequence.deadline = sequence.deadline or now + self._cold_limit(sequence)
            self._warming.add(sequence)
            return []
        self._scheduler.add(sequence)
        is_news = sequence.request.max_cold_s is not None and not sequence.was_warm
        sequence.was_warm = True
        return [TokenEvent(sequence.request_id)] if is_news else []

    def _wait_cold(self, sequence: Sequence, now: float) -> None:
        """The deadline is a load's: time spent running or in the queue does not count."""
        mark_cold(sequence)
        sequence.deadline = now + self._cold_limit(sequence)
        self._cold.add(sequence)

    def _cold_limit(self, sequence: Sequence) -> float:
        own = sequence.request.max_cold_s
        limit = self._parts.cold_load_timeout_s
        return limit if own is None or sequence.was_warm else min(own, limit)

    def _too_cold(self, sequence: Sequence) -> ColdLoadTimeout:
        assert sequence.adapter is not None
        message = (
            f"The adapter {sequence.adapter.label} was not in memory within"
            f" {self._cold_limit(sequence):g} seconds"
        )
        if sequence.status is SequenceStatus.WARMING:
            return ColdLoadTimeout(f"{message}: the device is full of adapters in use. Try later.")
        if not self._cold.is_loading(sequence.adapter.digest):
            return ColdLoadTimeout(f"{message}: others are loaded before it. Try later.")
        seconds = self._residency.mean_load_seconds
        return ColdLoadTimeout(f"{message}; its load goes on, try again.", math.ceil(seconds) or 1)

    def _settle(self) -> list[TokenEvent]:
        """After any change: whoever waits for room that it made gets it, and the numbers are true.

        No step may follow, so nothing may be left for the next one.
        """
        for request_id in self._scheduler.take_stopped():
            self._runner.forget(request_id)
        self._pins.keep_loaded()
        events = [self._finish_warming(sequence) for sequence in self._warming.take_done()]
        self._start_loads()
        self._place()
        self._take_stats()
        return events

    def _place(self) -> None:
        plan = self._residency.take_plan()
        started = perf_counter()
        self._pool.apply(plan)
        if plan.loads:
            seconds = (perf_counter() - started) / len(plan.loads)
            for _ in plan.loads:
                self._parts.observe_load("activate", seconds)

    def _start_loads(self) -> None:
        while self._shares.has_thread(self._cold) and self._start_next(self._cold.in_turn()):
            pass
        pinned = [ref for ref in self._pins.to_load() if not self._cold.is_loading(ref.digest)]
        for ref in pinned:
            if not self._shares.has_thread(self._cold) or not self._start_load(ref, NOBODY):
                break

    def _start_next(self, wishes: list[Wish]) -> bool:
        """The first load that is not too much for its tenant; it has to wait where memory is held:
        a smaller one that passed it would take the room that it waits for."""
        for wish in wishes:
            if self._shares.may_start(wish, self._cold):
                if not self._start_load(wish.ref, wish.tenant):
                    return False
                self._shares.note_held(wish.ref, wish.tenant)
                return True
        return False

    def _start_load(self, ref: AdapterRef, tenant: str) -> bool:
        if not self._residency.try_reserve_host(ref):
            return False
        self._cold.start(ref, tenant)
        self._parts.loader.start(ref, self._on_loaded)
        return True

    def _finish_warming(self, sequence: Sequence) -> TokenEvent:
        del self._sequences[sequence.request_id]
        return TokenEvent(sequence.request_id, finish_reason=FinishReason.STOP)

    def _fail(self, sequence: Sequence, error: RepertoireError) -> TokenEvent:
        sequence.status = SequenceStatus.FINISHED
        self._sequences.pop(sequence.request_id, None)
        return TokenEvent(
            sequence.request_id,
            finish_reason=FinishReason.ERROR,
            error=error,
            timeline=sequence.timeline,
        )

    def _take_stats(self) -> None:
        self.activity.publish()
        self._stats = replace(
            self._stats,
            num_running=len(self._scheduler.running),
            num_waiting=len(self._scheduler.waiting),
            num_cold=len(self._cold),
            num_loading=self._cold.num_loading,
            kv_blocks_used=self._parts.blocks.num_used,
            num_steps=self._num_steps,
            num_preemptions=self._scheduler.num_preemptions,
            num_prefill_chunks=self._scheduler.num_prefill_chunks,
            prompt_tokens=self._num_prompt_tokens,
            generated_tokens=self._num_generated_tokens,
            prefix_cache_queries=self._parts.blocks.num_queried,
            prefix_cache_hits=self._parts.blocks.num_hit,
            tiers=self._residency.stats() | self._parts.lower_tiers(),
        )
        if self._revision != self._residency.revision:
            self._revision = self._residency.revision
            self._stats = replace(
                self._stats, resident=self._residency.resident(), resident_revision=self._revision
            )


def _kept_out(ref: AdapterRef) -> RepertoireError:
    """An upload may be as large as the memory, so that what is accepted depends on no pins."""
    return Overloaded(
        f"{ref.label!r} takes {ref.compiled_bytes:,} bytes, more than pinned adapters leave of the"
        " host memory; it can be served when some are unpinned or --host-adapter-bytes is raised.",
        _UNPIN_RETRY_S,
    )


def _too_large(ref: AdapterRef) -> RepertoireError:
    """Each upload was checked against this memory, but a sum is the wish of a request."""
    if ref.parts:
        message = (
            f"Together the adapters take {ref.compiled_bytes:,} bytes in memory, more than this"
            " server has for adapters; name fewer."
        )
        return InvalidRequest(message, "adapters")
    return AdapterLoadFailed(f"The adapter {ref.label} is larger than the adapter memory.")
