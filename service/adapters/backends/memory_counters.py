"""`Counters` of one process. Event loop only: nothing is awaited between a look and a change."""

import time
from collections.abc import Callable

from service.adapters.backends.counters import Claim, Ruling
from service.adapters.backends.tenant_meter import TenantMeter

_SWEEP_EVERY = 1024
"""Claims between two looks for tenants that have gone quiet."""


class MemoryCounters:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds; it never goes back."""
        self._clock = clock
        self._meters: dict[str, TenantMeter] = {}
        self._num_claims = 0

    async def claim(self, claim: Claim) -> Ruling:
        now_ms = self._now_ms()
        self._num_claims += 1
        if self._num_claims % _SWEEP_EVERY == 0:
            self._sweep(now_ms)
        return self._meters.setdefault(claim.tenant, TenantMeter()).claim(claim, now_ms)

    async def reserve(self, claim: Claim) -> Ruling:
        return self._meters[claim.tenant].reserve(claim, self._now_ms())

    async def settle(self, tenant: str, ticket: str, num_tokens: int | None) -> None:
        meter = self._meters.get(tenant)
        if meter is not None:
            meter.settle(ticket, num_tokens)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _sweep(self, now_ms: int) -> None:
        self._meters = {
            tenant: meter for tenant, meter in self._meters.items() if not meter.is_idle(now_ms)
        }
