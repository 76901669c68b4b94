"""Virtual token counters: how much each of several parties has had of what they share.

After Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024). Whoever begins to wait
is lifted to the least of those who wait already, so that nobody saves up while away.
"""

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass

MAX_TENANTS = 1024
"""Counters that are remembered of tenants that do not wait."""


@dataclass(slots=True)
class _Place:
    """A party that has something waiting."""

    count: int
    since: int
    """Serial number of when it began to wait: of equal counters the older one goes first."""


class VirtualTokens:
    """One level of sharing. Invariant: every party that waits has a counter.

    Of those who do not wait, only the `max_remembered` that were served last are remembered;
    whoever is forgotten comes back as new, with the counter of the least of those who wait.
    """

    def __init__(self, max_remembered: int) -> None:
        self._max_remembered = max_remembered
        self._counters: OrderedDict[str, float] = OrderedDict()
        """Least recently served first."""
        self._waiting: dict[str, _Place] = {}
        self._last_left: str | None = None
        self._serials = itertools.count(1)

    def __len__(self) -> int:
        return len(self._counters)

    def __contains__(self, party: str) -> bool:
        return party in self._counters

    def counter(self, party: str) -> float:
        return self._counters.get(party, 0.0)

    def rank(self, party: str) -> tuple[float, float]:
        """Lower goes first; of equal ones somebody who waits, and longer than others."""
        place = self._waiting.get(party)
        return self._counters.get(party, 0.0), place.since if place else math.inf

    def wait(self, party: str) -> None:
        """One more of its requests waits."""
        place = self._waiting.get(party)
        if place is not None:
            place.count += 1
            return
        floor = min(map(self.counter, self._waiting), default=self._level_of_idle())
        self._waiting[party] = _Place(1, next(self._serials))
        self._set(party, max(self.counter(party), floor))

    def leave(self, party: str) -> None:
        """One of its requests waits no more: it was taken, or has gone."""
        place = self._waiting[party]
        place.count -= 1
        if not place.count:
            del self._waiting[party]
            self._last_left = party

    def charge(self, party: str, tokens: float) -> None:
        self._set(party, max(0.0, self.counter(party) + tokens))

    def _level_of_idle(self) -> float:
        """Where a queue that ran empty begins again."""
        return 0.0 if self._last_left is None else self.counter(self._last_left)

    def _set(self, party: str, value: float) -> None:
        self._counters[party] = value
        self._counters.move_to_end(party)
        num_excess = len(self._counters) - len(self._waiting) - self._max_remembered
        if num_excess > 0:
            idle = (one for one in self._counters if one not in self._waiting and one != party)
            for one in list(itertools.islice(idle, num_excess)):
                del self._counters[one]
