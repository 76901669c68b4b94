"""What the engine's loop calls, without a model: each lets virtual time go by, or plans its end."""

from collections.abc import Callable, Sequence

from service.adapters.eviction import LeastRecentlyUsed
from service.adapters.tier import Tier
from service.core import AdapterRef
from service.engine.loader import LoadCallback
from service.step import ResidencyPlan, SampledToken, Step, StepResult
from tests.bench.fleet_simulation.calendar import Calendar
from tests.bench.fleet_simulation.profile import LoadCost, StepCost

TOKEN = SampledToken(7, None)


class Watch:
    """Of one replica: within a step its time runs ahead of the calendar's."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ModelledPool:
    def __init__(self, watch: Watch, cost: StepCost) -> None:
        self._watch, self._cost = watch, cost

    def insert_host(self, digest: str, adapter: object) -> None: ...

    def wait_for(self, slots: Sequence[int]) -> None: ...

    def apply(self, plan: ResidencyPlan) -> None:
        self._watch.now += self._cost.copy * len(plan.loads)


class ModelledRunner:
    def __init__(self, watch: Watch, cost: StepCost) -> None:
        self._watch, self._cost = watch, cost

    def forget(self, request_id: str) -> None: ...

    def run(self, step: Step) -> StepResult:
        num_prefill = len(step.token_ids) - step.num_decode
        num_adapters = len(set(step.row_slot))
        self._watch.now += self._cost.seconds(step.num_decode, num_prefill, num_adapters)
        return StepResult([TOKEN] * len(step.samples), [])


class ModelledLoader:
    """Reads from the replica's disk, which loses what was used least recently; what is not there
    comes from the store, where some replica has left its compiled form."""

    num_threads = 3

    def __init__(self, calendar: Calendar, cost: LoadCost, disk_bytes: int) -> None:
        self._calendar, self._cost = calendar, cost
        self._disk = Tier(disk_bytes, LeastRecentlyUsed())
        self._from_store: set[str] = set()
        """Digests whose latest load came from there."""

    def start(self, ref: AdapterRef, done: LoadCallback) -> None:
        seconds = self._cost.disk
        if not self.touch(ref):
            seconds += self._cost.store
        self._calendar.at(self._calendar.now + seconds, _call(done, ref.digest, seconds))

    def source_of(self, ref: AdapterRef) -> str:
        return "store" if ref.digest in self._from_store else "disk"

    def touch(self, ref: AdapterRef) -> bool:
        """It is on the disk from now on; whether it was."""
        if ref.digest in self._disk:
            self._disk.touch(ref.digest)
            self._from_store.discard(ref.digest)
            return True
        self._make_room(ref.compiled_bytes)
        self._disk.insert(ref.digest, ref.compiled_bytes, cost=0.0)
        self._from_store.add(ref.digest)
        return False

    def close(self) -> None: ...

    def _make_room(self, num_bytes: int) -> None:
        victims = self._disk.victims()
        while self._disk.num_bytes + num_bytes > self._disk.budget_bytes:
            self._disk.remove(next(victims))


def _call(done: LoadCallback, digest: str, seconds: float) -> Callable[[], None]:
    return lambda: done(digest, None, seconds)  # type: ignore[arg-type]
