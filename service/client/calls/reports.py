"""The calls that tell what was done with the server."""

from collections.abc import Sequence
from datetime import date

from service.client.call import Call, Listing
from service.client.results.base import Page
from service.client.results.reports import AuditRecord, UsageRecord


def audit(
    *,
    first: date | None = None,
    last: date | None = None,
    tenant: str | None = None,
    page_size: int = 100,
) -> Listing[AuditRecord]:
    """Who changed what, oldest first, on these days (UTC); by default the last seven."""
    query = _days(first, last) | {"tenant": tenant, "limit": page_size}
    call = Call("GET", "/v1/audit", Page[AuditRecord], query=query)
    return Listing(call, lambda record: record.id)


def usage(
    *,
    first: date | None = None,
    last: date | None = None,
    group_by: Sequence[str] = ("tenant",),
    tenant: str | None = None,
    page_size: int = 100,
) -> Listing[UsageRecord]:
    """Requests, tokens and loaded bytes of these days (UTC); by default of the last seven.

    `group_by` says what is told apart: `day`, `tenant`, `adapter`, `version`.
    """
    query = _days(first, last) | {"tenant": tenant, "limit": page_size}
    call = Call("GET", "/v1/usage", Page[UsageRecord], query=query | {"group_by": tuple(group_by)})
    return Listing(call, lambda record: record.id)


def _days(first: date | None, last: date | None) -> dict[str, str | int | None]:
    return {
        "from": None if first is None else first.isoformat(),
        "to": None if last is None else last.isoformat(),
    }
