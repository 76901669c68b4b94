"""Whose turn it is to start in one step, and how often somebody may be passed over."""

import math
from collections.abc import Iterator

from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue


class Turns:
    """The policy's order, so bounded that nobody starves.

    A sequence that could not start in its turn lets `max_overtakes` others pass, then nobody. The
    oldest of all is counted too whenever a younger one starts, and goes first when it has let as
    many pass: whatever its priority, and however many parties are new to a fair policy.
    """

    def __init__(self, waiting: WaitingQueue, max_overtakes: int) -> None:
        self._waiting = waiting
        self._max_overtakes = max_overtakes
        self._eldest = waiting.eldest()
        self._blocked: list[Sequence] = []
        self._patience = math.inf
        """Starts that the least patient of those passed over still allows."""

    @property
    def are_over(self) -> bool:
        return self._patience <= 0

    def in_order(self, prefills: list[Sequence]) -> Iterator[Sequence]:
        """Those who wait, each once, and between them the running prefills where they rank."""
        first = None
        if self._eldest is not None and self._eldest.num_overtaken >= self._max_overtakes:
            first = self._eldest
            yield first
        for sequence in self._waiting.in_order(prefills):
            if sequence is not first:
                yield sequence

    def count_start(self, sequence: Sequence) -> None:
        for one in self._blocked:
            one.num_overtaken += 1
        if self._blocked:
            self._patience -= 1
        eldest = self._eldest
        if eldest is not None and eldest is not sequence and eldest not in self._blocked:
            eldest.num_overtaken += 1

    def count_blocked(self, sequence: Sequence) -> None:
        self._blocked.append(sequence)
        self._patience = min(self._patience, self._max_overtakes - sequence.num_overtaken)
