"""The real engine (scheduler, cold queue, residency, admission) in virtual time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from service.adapters.residency import Residency
from service.core import AdapterRef, GenerationRequest, TokenEvent
from service.engine.admission import Admission
from service.engine.block_manager import BlockManager
from service.engine.engine import Engine, EngineParts
from service.engine.policy import scheduling_policy
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.errors import RepertoireError
from tests.bench.fleet_simulation.calendar import Calendar
from tests.bench.fleet_simulation.memory import PAGE, Memory
from tests.bench.fleet_simulation.parts import (
    ModelledLoader,
    ModelledPool,
    ModelledRunner,
    Watch,
)
from tests.bench.fleet_simulation.profile import Profile

_MAX_NUM_SEQS = 64
_MAX_WAITING = 1024
_BLOCKS = 4096
"""Of 16 tokens: no request of a simulation is preempted for want of KV memory."""
_IDLE_S = 1e-3
"""A turn in which nothing could run, as when all host memory is held."""

Message = Callable[[Engine], list[TokenEvent] | None]


@dataclass(frozen=True, slots=True)
class Told:
    """What a client learns: the first token, or the end, which may come with it."""

    request_id: str
    at: float
    tier: str
    """The slowest one its adapter was found in: `device`, `host`, `disk` or `store`."""
    is_first: bool
    is_end: bool
    is_failed: bool


class Replica:
    def __init__(
        self,
        calendar: Calendar,
        profile: Profile,
        memory: Memory,
        tell: Callable[[Told], None],
    ) -> None:
        self._calendar, self._tell = calendar, tell
        self._watch = Watch()
        self._admission = Admission(_MAX_WAITING + _MAX_NUM_SEQS)
        self._residency = Residency(memory.device, memory.host, page_bytes=PAGE)
        self._loader = ModelledLoader(calendar, profile.load, memory.disk)
        blocks = BlockManager(_BLOCKS, block_size=16)
        config = SchedulerConfig(
            max_num_seqs=_MAX_NUM_SEQS,
            max_num_batched_tokens=profile.max_num_batched_tokens,
            max_mixed_prefill_tokens=profile.max_mixed_prefill_tokens,
        )
        parts = EngineParts(
            scheduler=Scheduler(config, blocks, self._residency, scheduling_policy("fair")),
            blocks=blocks,
            residency=self._residency,
            pool=ModelledPool(self._watch, profile.step),  # type: ignore[arg-type]
            runner=ModelledRunner(self._watch, profile.step),  # type: ignore[arg-type]
            loader=self._loader,  # type: ignore[arg-type]
            eos_token_ids=frozenset(),
        )
        self._engine = Engine(parts, self._on_loaded, clock=self._watch)
        self._inbox: list[Message] = []
        self._open: dict[str, GenerationRequest] = {}
        self._is_busy = False
        self._is_dead = False

    def resident(self) -> dict[str, str]:
        """What `/v1/residency` would say now."""
        return self._residency.resident()

    def submit(self, request: GenerationRequest) -> bool:
        """False = refused, the house is full: a 503."""
        try:
            self._admission.enter(request.tenant)
        except RepertoireError:
            return False
        self._open[request.request_id] = request
        self._post(lambda engine: engine.add(request))
        return True

    def fill_disk(self, refs: Iterable[AdapterRef]) -> None:
        """With as many as it has room for; the last ones count as used last."""
        for ref in refs:
            self._loader.touch(ref)

    def warm(self, ref: AdapterRef) -> None:
        """As if a request for it had come and gone, in no time."""
        residency = self._residency
        if residency.count_lookup(ref.digest) == "disk":
            self._loader.touch(ref)
            if not residency.try_reserve_host(ref):
                return
            residency.finish_load(ref.digest, 0.0, num_holders=0)
        if residency.try_activate(ref) is not None:
            residency.deactivate(ref.digest)
        residency.take_plan()

    def kill(self) -> list[str]:
        """The requests that die with it."""
        self._is_dead = True
        return list(self._open)

    def _on_loaded(self, digest: str, result: object, seconds: float) -> None:
        self._post(lambda engine: engine.finish_load(digest, result, seconds))  # type: ignore[arg-type]

    def _post(self, message: Message) -> None:
        self._inbox.append(message)
        if not self._is_busy:
            self._turn()

    def _turn(self) -> None:
        """Messages, then a step; what came of it is known when its time has gone by."""
        if self._is_dead:
            return
        self._is_busy = True
        began = self._watch.now = self._calendar.now
        events = self._engine.expire()
        while self._inbox:
            events += self._inbox.pop(0)(self._engine) or []
        self._deliver(events)
        self._is_busy = self._engine.has_work
        if self._is_busy:
            events = self._engine.step()
            end = max(self._watch.now, began + _IDLE_S)
            self._calendar.at(end, partial(self._end_step, events))

    def _end_step(self, events: list[TokenEvent]) -> None:
        if not self._is_dead:
            self._deliver(events)
            self._turn()

    def _deliver(self, events: list[TokenEvent]) -> None:
        for event in events:
            is_first = event.num_cached_tokens is not None
            if not is_first and not event.is_terminal:
                continue
            request = self._open[event.request_id]
            if event.is_terminal:
                self._admission.leave(request.tenant)
                del self._open[event.request_id]
            self._tell(
                Told(
                    event.request_id,
                    self._calendar.now,
                    self._tier(request, event),
                    is_first,
                    event.is_terminal,
                    event.error is not None,
                )
            )

    def _tier(self, request: GenerationRequest, event: TokenEvent) -> str:
        assert request.adapter is not None
        found = event.timeline.tier if event.timeline else "disk"
        return self._loader.source_of(request.adapter) if found == "disk" else found
