"""Whether a tenant may begin another completion now, and if not, when. Knows no HTTP.

A request and a place among those that run at once are taken before its prompts are read, because
reading them is work that others wait for. Tokens are taken once they are counted, as many as the
call can use at most: its prompts and `max_tokens` of every choice. What it did not use is given
back when its answer closes, aborted or not.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

import structlog

from service.adapters.backends.counters import Claim, Counters, Limit, Ruling
from service.errors import NeverWithinLimit, RateLimited
from service.tenancy import UNLIMITED, RateState, TenantLimits, WindowState

_log = structlog.get_logger(__name__)

LimitsOf = Callable[[str], TenantLimits]
"""Of a tenant, by its name."""


def unlimited(_: str) -> TenantLimits:
    return UNLIMITED


BUSY_RETRY_MS = 1_000
"""Nobody knows when a running answer ends, so this is a pace and no promise."""

_UNITS = {
    Limit.REQUESTS: "requests per minute",
    Limit.TOKENS: "tokens per minute",
    Limit.CONCURRENCY: "requests at once",
}


class Admission:
    """What one call has taken of its tenant's limits; whoever holds it settles it."""

    def __init__(
        self,
        rates: RateState,
        settle: Callable[[int | None], Coroutine[None, None, None]],
        reserve: Callable[[int], Awaitable[RateState]],
    ) -> None:
        self.rates = rates
        """As they were once it had taken the latest."""
        self._settle = settle
        self._reserve = reserve
        self._is_settled = False

    async def reserve(self, num_tokens: int) -> None:
        """In place of those reserved before. Raises `RateLimited`, or `NeverWithinLimit` when
        waiting does not help."""
        self.rates = await self._reserve(num_tokens)

    async def settle(self, num_tokens: int | None) -> None:
        """Give back all but `num_tokens`; None when the call was never begun, so that it does not
        count. Only the first call acts, and it is carried out even when its caller is cancelled."""
        if not self._is_settled:
            self._is_settled = True
            await asyncio.shield(asyncio.ensure_future(self._settle(num_tokens)))


@dataclass(frozen=True, slots=True)
class _Closed:
    """A refusal that also holds for whatever comes before `until`."""

    limits: TenantLimits
    since: float
    until: float
    """Monotonic seconds, both."""
    ruling: Ruling


class QuotaGuard:
    def __init__(
        self,
        counters: Counters,
        limits_of: LimitsOf = unlimited,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = counters
        self._limits_of = limits_of
        self._clock = clock
        self._closed: dict[str, _Closed] = {}
        self._settling: set[asyncio.Task[None]] = set()

    def tokens_per_minute(self, tenant: str) -> int | None:
        return self._limits_of(tenant).tokens_per_minute

    def check_open(self, tenant: str) -> None:
        """Raises `RateLimited` where a refusal of a moment ago still stands, so that a flood of
        calls is refused before anything is computed for them, prompts above all."""
        closed = self._closed.get(tenant)
        if closed is None:
            return
        now, limits = self._clock(), self._limits_of(tenant)
        if now >= closed.until or limits != closed.limits:
            del self._closed[tenant]
            return
        passed_ms = int((now - closed.since) * 1000)
        ruling = Ruling(
            _later(closed.ruling.rates, passed_ms),
            (Limit.REQUESTS,),
            max(1, closed.ruling.closed_ms - passed_ms),
        )
        raise _refusal(limits, ruling)

    async def admit(self, tenant: str) -> Admission:
        """A request and its place, and no tokens yet. Raises `RateLimited`."""
        limits = self._limits_of(tenant)
        if not _has_rates(limits):
            return Admission(RateState(), _nothing_to_settle, _nothing_to_reserve)
        ticket = secrets.token_hex(8)
        ruling = await self._counters.claim(Claim(tenant, limits, 0, ticket))
        if ruling.closed_ms:
            now = self._clock()
            self._closed[tenant] = _Closed(limits, now, now + ruling.closed_ms / 1000, ruling)
        if ruling.exceeded:
            raise _refusal(limits, ruling)
        return Admission(
            ruling.rates,
            lambda used: self._settle(tenant, ticket, used),
            lambda num_tokens: self._reserve(tenant, ticket, num_tokens),
        )

    async def _reserve(self, tenant: str, ticket: str, num_tokens: int) -> RateState:
        limits = self._limits_of(tenant)
        most = limits.tokens_per_minute
        if most is not None and num_tokens > most:
            raise NeverWithinLimit(
                f"Prompt and max_tokens are up to {num_tokens} tokens, more than the {most} tokens"
                " per minute of this tenant.",
                "max_tokens",
            )
        ruling = await self._counters.reserve(Claim(tenant, limits, num_tokens, ticket))
        if ruling.exceeded:
            raise _refusal(limits, ruling)
        return ruling.rates

    async def _settle(self, tenant: str, ticket: str, num_tokens: int | None) -> None:
        if num_tokens is None:
            self._closed.pop(tenant, None)  # it gives a request back
        task = asyncio.current_task()
        assert task is not None
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        try:
            await self._counters.settle(tenant, ticket, num_tokens)
        except Exception:
            _log.exception("quota_not_settled")


async def _nothing_to_settle(_: int | None) -> None:
    pass


async def _nothing_to_reserve(_: int) -> RateState:
    return RateState()


def _has_rates(limits: TenantLimits) -> bool:
    return any(getattr(limits, limit.value) is not None for limit in Limit)


def _later(rates: RateState, passed_ms: int) -> RateState:
    def later(window: WindowState | None) -> WindowState | None:
        return window and replace(window, reset_ms=max(0, window.reset_ms - passed_ms))

    return RateState(later(rates.requests), later(rates.tokens))


def _refusal(limits: TenantLimits, ruling: Ruling) -> RateLimited:
    is_busy = Limit.CONCURRENCY in ruling.exceeded
    wait_ms = max(ruling.wait_ms, BUSY_RETRY_MS if is_busy else 0)
    names = " and ".join(
        f"{getattr(limits, limit.value)} {_UNITS[limit]}" for limit in ruling.exceeded
    )
    return RateLimited(
        f"This tenant has reached its limit of {names}; ask again in {wait_ms / 1000:.1f} s.",
        wait_ms,
        ruling.rates,
    )
