"""Who gets the prefill rows of one step."""

import math
from collections.abc import Iterable, Iterator

from service.engine.sequence import Sequence

_OLDEST_SHARE = 4
"""One part in so many is kept for the prompt that has been computed for longest."""


class PrefillRows:
    """Rows are given in the order of asking; the oldest running prefill keeps a part.

    So a short prompt of somebody who has had little passes a long one, and the long one goes on
    whoever else comes. Each sequence is given rows once, since it is one segment of the step.

    The budget is in rows at the start of a prompt. A row further on sees more, and counts twice at
    `double_position`, so that a step takes as long at the end of a long prompt as at its start.
    """

    def __init__(
        self,
        budget: int,
        prefills: Iterable[Sequence],
        is_chunked: bool,
        double_position: float = math.inf,
    ) -> None:
        self._is_chunked = is_chunked
        self._double_position = double_position
        self._rows: dict[Sequence, int] = {}
        self._left = max(0, budget)
        self._oldest = min(prefills, key=lambda one: one.arrival, default=None)
        self._kept = 0
        if self._oldest is not None:
            share = -(-self._left // _OLDEST_SHARE)
            self._kept = min(self._price(self._oldest, _missing(self._oldest)), share)
            self._left -= self._kept

    @property
    def price(self) -> int:
        """Of all rows that were given."""
        return sum(self._price(sequence, num) for sequence, num in self._rows.items())

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def fits(self, sequence: Sequence) -> bool:
        """A whole prompt waits for a step with room for it, or for one without other prompts."""
        return self._is_chunked or not self._rows or sequence.num_tokens <= self._left

    def give(self, sequence: Sequence) -> None:
        if sequence in self._rows:
            return
        if sequence is self._oldest:
            self._left, self._kept = self._left + self._kept, 0
        num_rows = _missing(sequence)
        if self._is_chunked and self._price(sequence, num_rows) > self._left:
            affordable = int(self._left / self._price_of_one(sequence))
            num_rows = min(num_rows, self._left, max(1, affordable))
        if num_rows > 0:
            self._rows[sequence] = num_rows
            self._left -= self._price(sequence, num_rows)

    def __iter__(self) -> Iterator[tuple[Sequence, int]]:
        """What each sequence gets. Nothing can be given any more."""
        if self._oldest is not None:
            self.give(self._oldest)
        return iter(self._rows.items())

    def _price(self, sequence: Sequence, num_rows: int) -> int:
        return math.ceil(num_rows * self._price_of_one(sequence))

    def _price_of_one(self, sequence: Sequence) -> float:
        return 1 + sequence.num_computed / self._double_position


def _missing(sequence: Sequence) -> int:
    return sequence.num_tokens - sequence.num_computed
