"""What each tenant takes right now: requests and tokens of the last minute, requests in flight.

Asked once when a request begins and once when it ends, never per token, so that the counters of a
fleet may lie in another process.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.tenancy import RateState, TenantLimits


class Limit(StrEnum):
    """The fields of `TenantLimits` that are counted here."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENCY = "max_concurrent_requests"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants to take, all of it or nothing."""

    tenant: str
    limits: TenantLimits
    num_tokens: int
    """At most `limits.tokens_per_minute`."""
    ticket: str
    """Unique; `reserve` and `settle` name it."""


@dataclass(frozen=True, slots=True)
class Ruling:
    rates: RateState
    """After the claim was granted or refused."""
    exceeded: tuple[Limit, ...] = ()
    """Empty = granted."""
    wait_ms: int = 0
    """When a refused claim fits the limits per minute, if nothing else is taken until then."""
    closed_ms: int = 0
    """So long no claim at all is granted, because the requests of this minute are used up."""


class Counters(Protocol):
    async def claim(self, claim: Claim) -> Ruling:
        """Decide and count in one step."""

    async def reserve(self, claim: Claim) -> Ruling:
        """What was granted under this ticket takes its `num_tokens` from now on, in place of those
        that it had. Refused, it keeps its request and has no tokens."""

    async def settle(self, tenant: str, ticket: str, num_tokens: int | None) -> None:
        """The request is over: it used `num_tokens` of those that it claimed, and counts as of when
        it claimed them. None = it was never begun, and nothing was used. Unknown tickets are
        ignored."""
