"""`Counters` of a replica among others: shared while Redis answers, its own share of every limit
while it does not. Event loop only.

What this replica has granted it always counts itself, too. That is what it decides by when it is
alone, and what it tells Redis when that is back.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from service.adapters.backends.counters import Claim, Limit, Ruling
from service.adapters.backends.redis.counters import RedisCounters
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.status import LinkStatus
from service.adapters.backends.share import local_share
from service.adapters.backends.tenant_meter import MeterReport, TenantMeter
from service.errors import StoreUnavailable
from service.tenancy import UNLIMITED

_log = structlog.get_logger(__name__)

_RETRY_MS = 5_000
"""When a call that is larger than the share of this replica may ask again."""

_REPORT_EVERY_S = 30.0
"""What Redis has of a tenant is replaced so often by what is known here, and kept alive."""


class FleetCounters:
    def __init__(self, link: RedisLink, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds; it never goes back."""
        self._link = link
        self._clock = clock
        self._meters: dict[str, TenantMeter] = {}
        self._shared = RedisCounters(link, self._report_of)
        self._changed = asyncio.Event()
        self.num_alone = 0
        """Claims that this replica has decided by itself, since the start."""

    async def claim(self, claim: Claim) -> Ruling:
        if self._is_shared:
            with contextlib.suppress(StoreUnavailable):
                ruling = await self._shared.claim(claim)
                if not ruling.exceeded:
                    self._count(claim)
                return ruling
        self.num_alone += 1
        return self._alone(claim, is_reserved=False)

    async def reserve(self, claim: Claim) -> Ruling:
        if self._is_shared:
            with contextlib.suppress(StoreUnavailable):
                ruling = await self._shared.reserve(claim)
                self._recount(claim, 0 if ruling.exceeded else claim.num_tokens)
                return ruling
        return self._alone(claim, is_reserved=True)

    async def settle(self, tenant: str, ticket: str, num_tokens: int | None) -> None:
        self._meter(tenant).settle(ticket, num_tokens)
        try:
            await self._shared.settle(tenant, ticket, num_tokens)
        except StoreUnavailable:
            self._shared.forget(tenant)

    async def run(self) -> None:
        """Until it is cancelled: Redis is told whatever it does not have, and at once when it is
        back."""
        loop, known = asyncio.get_running_loop(), self._link.status

        def wake(_: LinkStatus) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._changed.set)

        self._link.on_change(wake)
        told_at = self._clock()
        while True:
            with contextlib.suppress(TimeoutError):
                # `wait_for` of Python 3.11 may swallow the cancellation.
                async with asyncio.timeout(self._link.pace.heartbeat_s):
                    await self._changed.wait()
            self._changed.clear()
            status = self._link.status
            is_another = (status.num_ups, status.epoch) != (known.num_ups, known.epoch)
            is_due = self._clock() - told_at >= _REPORT_EVERY_S
            if status.is_up:
                await self._tell(is_everything=is_another or is_due)
                known = status
                told_at = self._clock() if is_another or is_due else told_at

    @property
    def _is_shared(self) -> bool:
        status = self._link.status
        if status.gap_at is None:
            return status.is_up
        return status.is_up and time.monotonic() - status.gap_at >= self._link.pace.settle_s

    async def _tell(self, *, is_everything: bool) -> None:
        self._sweep()
        for tenant in tuple(self._meters):
            if is_everything or not self._shared.is_told(tenant):
                try:
                    await self._shared.report(tenant)
                except StoreUnavailable:
                    return

    def _alone(self, claim: Claim, *, is_reserved: bool) -> Ruling:
        self._shared.forget(claim.tenant)
        limits = local_share(claim.limits, self._link.status.num_replicas)
        mine, meter, now_ms = (
            replace(claim, limits=limits),
            self._meter(claim.tenant),
            self._now_ms(),
        )
        most = limits.tokens_per_minute
        if most is None or claim.num_tokens <= most:
            return meter.reserve(mine, now_ms) if is_reserved else meter.claim(mine, now_ms)
        if is_reserved:
            ruling = meter.reserve(replace(mine, num_tokens=0), now_ms)
            return Ruling(ruling.rates, (Limit.TOKENS,), _RETRY_MS)
        return Ruling(meter.rates(limits, now_ms), (Limit.TOKENS,), _RETRY_MS)

    def _count(self, claim: Claim) -> None:
        self._meter(claim.tenant).claim(replace(claim, limits=UNLIMITED), self._now_ms())

    def _recount(self, claim: Claim, num_tokens: int) -> None:
        granted = replace(claim, limits=UNLIMITED, num_tokens=num_tokens)
        self._meter(claim.tenant).reserve(granted, self._now_ms())

    def _report_of(self, tenant: str) -> MeterReport:
        meter = self._meters.get(tenant)
        return MeterReport() if meter is None else meter.report(self._now_ms())

    def _meter(self, tenant: str) -> TenantMeter:
        return self._meters.setdefault(tenant, TenantMeter())

    def _sweep(self) -> None:
        now_ms = self._now_ms()
        for tenant in [one for one, meter in self._meters.items() if meter.is_idle(now_ms)]:
            del self._meters[tenant]
            self._shared.drop(tenant)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
