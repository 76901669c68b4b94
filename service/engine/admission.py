"""How many sequences each tenant may have open. Pure counting."""

from collections import Counter

from service.errors import Overloaded

GREED = 8
"""A tenant may have so many times as many sequences open as there are free places."""


class Admission:
    """A bounded house in which one tenant's burst leaves room for the others.

    The rule is Choudhury and Hahne's dynamic threshold: alone a tenant gets GREED / (GREED + 1) of
    all places, two greedy ones GREED / (2 * GREED + 1) each, and whoever has few open gets in as
    long as one place is free.
    """

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._num_open = 0
        self._by_tenant: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._num_open

    def enter(self, tenant: str) -> None:
        """Raises `Overloaded` when the house is full, or full for this tenant."""
        num_free = self._max_open - self._num_open
        if num_free <= 0:
            raise Overloaded(f"{self._max_open} sequences are open already; try again later.")
        if self._by_tenant[tenant] >= GREED * num_free:
            raise Overloaded(
                f"{self._by_tenant[tenant]} sequences of yours are open already, and the places"
                " that are left are for others; try again later."
            )
        self._by_tenant[tenant] += 1
        self._num_open += 1

    def leave(self, tenant: str) -> None:
        self._num_open -= 1
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
