"""The sequences that wait to start, in a policy's order."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from service.engine.activity import Tally
from service.engine.policy import Rank, SchedulingPolicy
from service.engine.sequence import Sequence

_Group = tuple[int, str, str]
"""Priority, tenant, adapter: who is equal to a policy but for the time of arrival."""


class WaitingQueue:
    """One list for each group, in order of arrival; only their heads are compared."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy
        self._groups: dict[_Group, list[Sequence]] = {}
        self._num_waiting = 0
        self._num_removed = 0
        self.tally = Tally()

    def __len__(self) -> int:
        return self._num_waiting

    def __iter__(self) -> Iterator[Sequence]:
        return self.in_order()

    def add(self, sequence: Sequence) -> None:
        insort(self._groups.setdefault(_group(sequence), []), sequence, key=_arrival)
        self._num_waiting += 1
        self.tally.add(sequence)
        self._policy.wait(sequence)

    def remove(self, sequence: Sequence) -> None:
        group = self._groups[_group(sequence)]
        place = bisect_left(group, sequence.arrival, key=_arrival)
        assert group[place] is sequence
        del group[place]
        if not group:
            del self._groups[_group(sequence)]
        self._num_waiting -= 1
        self._num_removed += 1
        self.tally.remove(sequence)
        self._policy.leave(sequence)

    def eldest(self) -> Sequence | None:
        heads = (group[0] for group in self._groups.values())
        return min(heads, key=_arrival, default=None)

    def in_order(self, others: Iterable[Sequence] = ()) -> Iterator[Sequence]:
        """All of them and `others`, which do not wait, as they rank when it is their turn.

        Whoever was just yielded may be removed and charged meanwhile.
        """
        rank = self._policy.rank
        lists = [*self._groups.values(), *([one] for one in others)]
        num_removed = self._num_removed
        heap: list[tuple[Rank, int, int, int]] = [
            (rank(group[0]), number, 0, num_removed) for number, group in enumerate(lists)
        ]
        heapq.heapify(heap)
        while heap:
            _, number, place, num_removed = heap[0]
            group = lists[number]
            sequence = group[place]
            if num_removed != self._num_removed:
                # Somebody was taken and charged since this one was ranked.
                entry = (rank(sequence), number, place, self._num_removed)
                heapq.heapreplace(heap, entry)
                if heap[0] is not entry:
                    continue
            yield sequence
            if place < len(group) and group[place] is sequence:
                place += 1
            if place < len(group):
                heapq.heapreplace(heap, (rank(group[place]), number, place, self._num_removed))
            else:
                heapq.heappop(heap)


def _group(sequence: Sequence) -> _Group:
    return (sequence.request.priority, sequence.request.tenant, sequence.adapter_name)


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival
