"""The counters of one tenant. Pure: time is passed in, in whole milliseconds."""

from dataclasses import dataclass, field

from service.adapters.backends.counters import Claim, Limit, Ruling
from service.adapters.backends.sliding_window import GRAIN_MS, SlidingWindow
from service.tenancy import RateState, TenantLimits


@dataclass(frozen=True, slots=True)
class _Running:
    began_ms: int
    num_tokens: int
    """As claimed or, later, reserved."""
    tokens_ms: int
    """When they were taken."""


@dataclass(frozen=True, slots=True)
class MeterReport:
    """All that still counts, told by ages (ms), so that whoever has another clock can take it
    over."""

    requests: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each grain the age of its first and of its last, and how many."""
    tokens: list[tuple[int, int, int]] = field(default_factory=list)
    running: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Ticket, age, tokens, age of the tokens."""


class TenantMeter:
    """Everything is counted whether it is limited or not, since a limit may come at any time."""

    def __init__(self, grain_ms: int = GRAIN_MS) -> None:
        self._requests = SlidingWindow(grain_ms)
        self._tokens = SlidingWindow(grain_ms)
        self._running: dict[str, _Running] = {}

    @property
    def num_running(self) -> int:
        return len(self._running)

    def claim(self, claim: Claim, now_ms: int) -> Ruling:
        limits = claim.limits
        waits = {
            Limit.REQUESTS: _wait(self._requests, 1, limits.requests_per_minute, now_ms),
            Limit.TOKENS: _wait(self._tokens, claim.num_tokens, limits.tokens_per_minute, now_ms),
        }
        exceeded = [limit for limit, wait_ms in waits.items() if wait_ms]
        most = limits.max_concurrent_requests
        if most is not None and self.num_running >= most:
            exceeded.append(Limit.CONCURRENCY)
        if not exceeded:
            self._requests.take(1, now_ms)
            self._tokens.take(claim.num_tokens, now_ms)
            self._running[claim.ticket] = _Running(now_ms, claim.num_tokens, now_ms)
        wait_ms, closed_ms = max(waits.values()), waits[Limit.REQUESTS]
        return Ruling(self.rates(limits, now_ms), tuple(exceeded), wait_ms, closed_ms)

    def reserve(self, claim: Claim, now_ms: int) -> Ruling:
        """Of a claim that was granted under the same ticket and is not settled."""
        running = self._running[claim.ticket]
        self._tokens.give_back(running.num_tokens, running.tokens_ms)
        wait_ms = _wait(self._tokens, claim.num_tokens, claim.limits.tokens_per_minute, now_ms)
        num_tokens = 0 if wait_ms else claim.num_tokens
        self._tokens.take(num_tokens, now_ms)
        self._running[claim.ticket] = _Running(running.began_ms, num_tokens, now_ms)
        exceeded = (Limit.TOKENS,) if wait_ms else ()
        return Ruling(self.rates(claim.limits, now_ms), exceeded, wait_ms)

    def settle(self, ticket: str, num_tokens: int | None) -> None:
        running = self._running.pop(ticket, None)
        if running is None:
            return
        unused = running.num_tokens - (num_tokens or 0)
        self._tokens.give_back(unused, running.tokens_ms)
        if num_tokens is None:
            self._requests.give_back(1, running.began_ms)

    def is_idle(self, now_ms: int) -> bool:
        """Nothing would be lost with it."""
        is_empty = self._requests.is_empty(now_ms) and self._tokens.is_empty(now_ms)
        return is_empty and not self._running

    def report(self, now_ms: int) -> MeterReport:
        running = [
            (ticket, now_ms - one.began_ms, one.num_tokens, now_ms - one.tokens_ms)
            for ticket, one in self._running.items()
        ]
        return MeterReport(self._requests.ages(now_ms), self._tokens.ages(now_ms), running)

    def rates(self, limits: TenantLimits, now_ms: int) -> RateState:
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        return RateState(
            None if requests is None else self._requests.state(requests, now_ms),
            None if tokens is None else self._tokens.state(tokens, now_ms),
        )


def _wait(window: SlidingWindow, amount: int, limit: int | None, now_ms: int) -> int:
    return 0 if limit is None else window.wait_ms(amount, limit, now_ms)
