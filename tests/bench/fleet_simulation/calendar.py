"""Virtual time: what happens next, in order of the moment and then of being planned."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Calendar:
    def __init__(self) -> None:
        self.now = 0.0
        """Seconds."""
        self._entries: list[tuple[float, int, Action]] = []
        self._serials = itertools.count()

    def at(self, moment: float, action: Action) -> None:
        heapq.heappush(self._entries, (moment, next(self._serials), action))

    def run(self, until: Callable[[], bool]) -> None:
        """Ends when nothing is planned any more, or when `until` is true."""
        while self._entries and not until():
            self.now, _, action = heapq.heappop(self._entries)
            action()
