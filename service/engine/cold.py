"""Sequences that wait outside the batch for their adapter: one load per version."""

import heapq
import itertools
from dataclasses import dataclass, field

from service.core import AdapterRef
from service.engine.activity import Tally
from service.engine.sequence import Sequence, SequenceStatus
from service.engine.virtual_tokens import MAX_TENANTS, VirtualTokens

_SLACK = 64
"""Deadlines of who has left that are kept beside as many as wait."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A version that somebody waits for and nobody loads yet."""

    ref: AdapterRef
    tenant: str
    """Who asked first: the load counts as this tenant's."""
    priority: int
    """Of the most urgent sequence that waits for it."""


@dataclass(frozen=True, slots=True)
class Load:
    """One that has begun."""

    ref: AdapterRef
    tenant: str
    """Whose it counts as, who may have left."""


@dataclass(slots=True)
class _Waiters:
    ref: AdapterRef
    tenant: str
    serial: int
    """Of when the first began to wait."""
    priority: int
    """Of the most urgent."""
    sequences: list[Sequence] = field(default_factory=list)


_Turn = tuple[int, int, str]
"""Priority, serial number, digest: the order of one tenant's loads."""


class ColdQueue:
    """Pure bookkeeping. Between tenants the bytes that were loaded for each are kept equal.

    It is asked between any two steps, so nothing that is asked then looks at all who wait: heaps
    keep what has changed since until it comes to their top.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self._by_digest: dict[str, _Waiters] = {}
        self._turns: dict[str, list[_Turn]] = {}
        """A heap for each tenant that waits."""
        self._deadlines: list[tuple[float, int, Sequence]] = []
        """A heap; the number is the sequence's arrival."""
        self._num_waiting = 0
        self._serials = itertools.count()
        self._loading: dict[str, Load] = {}
        self._loaded_bytes = VirtualTokens(MAX_TENANTS)

    def __len__(self) -> int:
        return self._num_waiting

    @property
    def num_loading(self) -> int:
        return len(self._loading)

    def num_loading_for(self, tenant: str) -> int:
        return sum(one.tenant == tenant for one in self._loading.values())

    def add(self, sequence: Sequence) -> None:
        ref, request = sequence.adapter, sequence.request
        assert ref is not None
        sequence.status = SequenceStatus.COLD
        waiters = self._by_digest.get(ref.digest)
        if waiters is None:
            waiters = _Waiters(ref, request.tenant, next(self._serials), request.priority)
            self._by_digest[ref.digest] = waiters
            self._loaded_bytes.wait(request.tenant)
            self._give_turn(waiters)
        elif request.priority < waiters.priority:
            waiters.priority = request.priority
            self._give_turn(waiters)
        waiters.sequences.append(sequence)
        self._num_waiting += 1
        self.tally.add(sequence)
        self._note_deadline(sequence)

    def remove(self, sequence: Sequence) -> None:
        """A load that has started goes on: the next request will want it."""
        assert sequence.adapter is not None
        waiters = self._by_digest[sequence.adapter.digest]
        waiters.sequences.remove(sequence)
        sequence.status = SequenceStatus.FINISHED
        self._num_waiting -= 1
        self.tally.remove(sequence)
        if not waiters.sequences:
            self._drop(waiters)
        elif sequence.request.priority == waiters.priority:
            waiters.priority = min(one.request.priority for one in waiters.sequences)
            self._give_turn(waiters)

    def in_turn(self) -> list[Wish]:
        """The next load of every tenant: the more urgent first, then who has had least."""
        firsts = [self._first_of(tenant) for tenant in self._turns]
        return sorted(
            (one for one in firsts if one is not None),
            key=lambda one: (one.priority, self._loaded_bytes.rank(one.tenant)),
        )

    def is_loading(self, digest: str) -> bool:
        return digest in self._loading

    def load_of(self, digest: str) -> Load | None:
        return self._loading.get(digest)

    def start(self, ref: AdapterRef, tenant: str) -> None:
        self._loading[ref.digest] = Load(ref, tenant)
        self._loaded_bytes.charge(tenant, ref.compiled_bytes)

    def finish(self, digest: str) -> list[Sequence]:
        """The load has ended; the sequences that waited for it."""
        self._loading.pop(digest, None)
        waiters = self._by_digest.get(digest)
        if waiters is None:
            return []
        self._drop(waiters)
        self._num_waiting -= len(waiters.sequences)
        for sequence in waiters.sequences:
            self.tally.remove(sequence)
        return waiters.sequences

    def sequences(self) -> list[Sequence]:
        return [one for waiters in self._by_digest.values() for one in waiters.sequences]

    def expired(self, now: float) -> list[Sequence]:
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return []
        return [one for one in self.sequences() if one.deadline <= now]

    def next_deadline(self) -> float | None:
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _note_deadline(self, sequence: Sequence) -> None:
        heapq.heappush(self._deadlines, (sequence.deadline, sequence.arrival, sequence))
        if len(self._deadlines) > 2 * self._num_waiting + _SLACK:
            self._deadlines = [one for one in self._deadlines if self._is_due(*one)]
            heapq.heapify(self._deadlines)

    def _is_due(self, deadline: float, _: int, sequence: Sequence) -> bool:
        return sequence.status is SequenceStatus.COLD and sequence.deadline == deadline

    def _give_turn(self, waiters: _Waiters) -> None:
        turn = (waiters.priority, waiters.serial, waiters.ref.digest)
        heapq.heappush(self._turns.setdefault(waiters.tenant, []), turn)

    def _first_of(self, tenant: str) -> Wish | None:
        turns = self._turns.get(tenant, [])
        while turns:
            priority, serial, digest = turns[0]
            waiters = self._by_digest.get(digest)
            is_true = waiters and (waiters.priority, waiters.serial) == (priority, serial)
            if waiters and is_true and digest not in self._loading:
                return Wish(waiters.ref, tenant, priority)
            heapq.heappop(turns)
        return None

    def _drop(self, waiters: _Waiters) -> None:
        del self._by_digest[waiters.ref.digest]
        self._loaded_bytes.leave(waiters.tenant)
        if self._first_of(waiters.tenant) is None:
            self._turns.pop(waiters.tenant, None)
