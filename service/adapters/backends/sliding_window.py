"""How much was taken in the last minute. Pure: time is passed in, in whole milliseconds.

A sliding log, because it alone keeps the promise that its limit makes to whoever shares the
machine: never more than the limit in *any* 60 seconds. A token bucket of the same size lets nearly
twice as much through in one minute, a counter per calendar minute the same around its turn.

What is taken within a grain of time is kept as one entry that leaves with its last part, so a
window holds about 60 entries whatever its limit, and room comes back at most a grain late.
"""

from collections import deque
from dataclasses import dataclass

from service.tenancy import WindowState

WINDOW_MS = 60_000
GRAIN_MS = 1_000


@dataclass(slots=True)
class _Entry:
    first_ms: int
    last_ms: int
    amount: int


class SlidingWindow:
    def __init__(self, grain_ms: int = GRAIN_MS) -> None:
        self._grain_ms = grain_ms
        self._entries: deque[_Entry] = deque()
        self._used = 0

    def is_empty(self, now_ms: int) -> bool:
        self._expire(now_ms)
        return not self._entries

    def wait_ms(self, amount: int, limit: int, now_ms: int) -> int:
        """Until `amount` fits, if nobody else takes anything; 0 = it fits now.

        `amount` is at most `limit`.
        """
        self._expire(now_ms)
        excess = self._used + amount - limit
        if excess <= 0:
            return 0
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return entry.last_ms + WINDOW_MS - now_ms
        raise ValueError("more than the limit never fits")

    def take(self, amount: int, now_ms: int) -> None:
        """The caller has seen that it fits."""
        self._expire(now_ms)
        last = self._entries[-1] if self._entries else None
        if last is not None and now_ms - last.first_ms < self._grain_ms:
            last.last_ms = max(last.last_ms, now_ms)
            last.amount += amount
        else:
            self._entries.append(_Entry(now_ms, now_ms, amount))
        self._used += amount

    def give_back(self, amount: int, taken_ms: int) -> None:
        """Part of what was taken then; what is older than a minute is free already."""
        for entry in self._entries:
            if entry.first_ms <= taken_ms <= entry.last_ms:
                entry.amount -= amount
                self._used -= amount
                return

    def state(self, limit: int, now_ms: int) -> WindowState:
        self._expire(now_ms)
        taken = [entry for entry in self._entries if entry.amount]
        reset_ms = taken[-1].last_ms + WINDOW_MS - now_ms if taken else 0
        return WindowState(limit, max(0, limit - self._used), reset_ms)

    def ages(self, now_ms: int) -> list[tuple[int, int, int]]:
        """Of each entry how long ago it began and ended (ms), and its amount."""
        self._expire(now_ms)
        return [(now_ms - one.first_ms, now_ms - one.last_ms, one.amount) for one in self._entries]

    def _expire(self, now_ms: int) -> None:
        while self._entries and self._entries[0].last_ms + WINDOW_MS <= now_ms:
            self._used -= self._entries.popleft().amount
