"""`Counters` of all replicas together, in Redis. Event loop only.

What Redis has of this replica builds on a report: all that the replica has granted and that still
counts. It is made before the first call for a tenant, and again whenever nobody can be sure any
more what Redis has: after a call that failed, when the replica has granted something by itself, or
when Redis has lost it. So nothing is counted twice or forgotten, whatever answer gets lost.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from service.adapters.backends.counters import Claim, Limit, Ruling
from service.adapters.backends.redis import counter_scripts as scripts
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.tenant_meter import MeterReport
from service.errors import StoreUnavailable
from service.tenancy import RateState, TenantLimits, WindowState

_ATTEMPTS = 3


class _Told:
    """What a tenant's calls build on. A report has the tenant to itself: what is on its way when
    it is made could be neither in it nor after it."""

    def __init__(self) -> None:
        self.report = ""
        """Its name; empty = there is to be another one."""
        self.num_changes = 0
        self.lock = asyncio.Lock()
        self._num_calls = 0
        self._no_calls = asyncio.Event()
        self._no_calls.set()

    async def until_alone(self) -> None:
        await self._no_calls.wait()

    def enter(self) -> None:
        self._num_calls += 1
        self._no_calls.clear()

    def leave(self) -> None:
        self._num_calls -= 1
        if not self._num_calls:
            self._no_calls.set()

    @property
    def is_idle(self) -> bool:
        return not self._num_calls and not self.lock.locked()


class RedisCounters:
    """Everything raises `StoreUnavailable` when Redis is away; what it has counted is unknown then
    and does not matter, because a report comes before anything else."""

    def __init__(
        self, link: RedisLink, report_of: Callable[[str], MeterReport] = lambda _: MeterReport()
    ) -> None:
        """`report_of` a tenant: what this replica has granted it."""
        self._link = link
        self._report_of = report_of
        self._told: dict[str, _Told] = {}

    async def claim(self, claim: Claim) -> Ruling:
        at_once = _text(claim.limits.max_concurrent_requests)
        answer = await self._call(scripts.CLAIM, claim.tenant, [*_arguments(claim), at_once])
        wait_requests, wait_tokens, is_busy = answer[:3]
        exceeded = {
            Limit.REQUESTS: wait_requests,
            Limit.TOKENS: wait_tokens,
            Limit.CONCURRENCY: is_busy,
        }
        return Ruling(
            _rates(claim.limits, answer),
            tuple(limit for limit, is_exceeded in exceeded.items() if is_exceeded),
            max(wait_requests, wait_tokens),
            wait_requests,
        )

    async def reserve(self, claim: Claim) -> Ruling:
        answer = await self._call(scripts.RESERVE, claim.tenant, _arguments(claim))
        wait_ms = answer[1]
        return Ruling(_rates(claim.limits, answer), (Limit.TOKENS,) if wait_ms else (), wait_ms)

    async def settle(self, tenant: str, ticket: str, num_tokens: int | None) -> None:
        await self._call(scripts.SETTLE, tenant, [ticket, _text(num_tokens)])

    async def report(self, tenant: str) -> None:
        """Anew, whether it seems to be needed or not."""
        self.forget(tenant)
        told = self._told_of(tenant)
        async with told.lock:
            await self._report(tenant, told)

    def is_told(self, tenant: str) -> bool:
        """Whether Redis has all that this replica has granted, as far as is known."""
        told = self._told.get(tenant)
        return told is not None and bool(told.report)

    def forget(self, tenant: str) -> None:
        """What Redis has is no longer what this replica has granted."""
        told = self._told.get(tenant)
        if told is not None:
            told.report = ""
            told.num_changes += 1

    def drop(self, tenant: str) -> None:
        """Nothing is granted that still counts."""
        told = self._told.get(tenant)
        if told is not None and told.is_idle:
            del self._told[tenant]

    async def _call(self, script: str, tenant: str, args: list[str | int]) -> list[int]:
        told = self._told_of(tenant)
        for _ in range(_ATTEMPTS):
            async with told.lock:
                if not told.report:
                    await self._report(tenant, told)
                name = told.report
                told.enter()
            try:
                answer = await self._run(script, tenant, name, args)
            except BaseException:
                self.forget(tenant)
                raise
            finally:
                told.leave()
            if answer is not None:
                return answer
            if told.report == name:
                self._lost(tenant)
        raise StoreUnavailable("The counters of the fleet do not hold what they are told.")

    def _lost(self, tenant: str) -> None:
        """Redis has not what it was told. If that was something, then what the others have told is
        missing too, until they hear of it."""
        self.forget(tenant)
        if self._report_of(tenant) != MeterReport():
            self._link.look_again()
            raise StoreUnavailable("The counters of the fleet were lost.")

    async def _report(self, tenant: str, told: _Told) -> None:
        """Under its lock."""
        while not told.report:
            await told.until_alone()
            num_changes, name = told.num_changes, secrets.token_hex(8)
            report = json.dumps(asdict(self._report_of(tenant)))
            await self._run(scripts.REPORT, tenant, name, [report])
            if told.num_changes == num_changes:
                told.report = name

    async def _run(
        self, script: str, tenant: str, report: str, args: list[str | int]
    ) -> list[int] | None:
        process = self._link.member
        keys = ["replicas", f"meter:{tenant}", f"requests:{tenant}", f"tokens:{tenant}"]
        keys.append(f"running:{tenant}:{process}")
        answer: Any = await self._link.acall(
            script, keys, [self._link.now(), process, report, *args]
        )
        return None if answer is None else [int(one) for one in answer]

    def _told_of(self, tenant: str) -> _Told:
        return self._told.setdefault(tenant, _Told())


def _arguments(claim: Claim) -> list[str | int]:
    limits = claim.limits
    per_minute = (limits.requests_per_minute, limits.tokens_per_minute)
    return [claim.ticket, claim.num_tokens, *map(_text, per_minute)]


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _rates(limits: TenantLimits, answer: list[int]) -> RateState:
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    return RateState(
        None if requests is None else WindowState(requests, answer[3], answer[4]),
        None if tokens is None else WindowState(tokens, answer[5], answer[6]),
    )
