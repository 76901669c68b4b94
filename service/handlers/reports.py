"""What a report covers: which days, and whose."""

from datetime import date, timedelta

from service.errors import InvalidRequest, PermissionDenied
from service.tenancy import Principal

MAX_DAYS = 92
DEFAULT_DAYS = 7


def days_between(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """Both inclusive, in UTC. Raises `InvalidRequest`."""
    last = last or today
    if first is None:
        first = date.fromordinal(max(1, last.toordinal() - DEFAULT_DAYS + 1))
    if first > last:
        raise InvalidRequest("`from` lies behind `to`.", "from")
    if last - first >= timedelta(MAX_DAYS):
        raise InvalidRequest(f"At most {MAX_DAYS} days can be asked for at once.", "from")
    return first, last


def seen_tenant(principal: Principal, wanted: str | None) -> str | None:
    """Whose entries are shown; None is everybody's. Raises `PermissionDenied`."""
    if principal.is_operator:
        return wanted
    if wanted is not None and wanted != principal.tenant:
        raise PermissionDenied("What other tenants do needs an operator's key.")
    return principal.tenant
