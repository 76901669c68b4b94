"""The calls that tell what was done with the server."""

from datetime import date

from service.client.call import Call, Listing
from service.client.results.base import Page
from service.client.results.reports import AuditRecord


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


def _days(first: date | None, last: date | None) -> dict[str, str | int | None]:
    return {
        "from": None if first is None else first.isoformat(),
        "to": None if last is None else last.isoformat(),
    }
