"""How urgent a request may be."""

from service.errors import PermissionDenied
from service.tenancy import ANYONE, OF_SETTINGS, Principal


def check_priority(wanted: int | None, principal: Principal) -> int:
    """The priority that a request gets. Raises `PermissionDenied` when its key allows less.

    Operators without a managed key have no bound; one that was set binds operators too.
    """
    most_urgent = principal.min_priority
    if wanted is None:
        return max(0, most_urgent)
    if wanted < most_urgent and principal not in (ANYONE, OF_SETTINGS):
        raise PermissionDenied(
            f"This key allows priorities from {most_urgent} on (lower is more urgent), "
            f"so priority {wanted} is not for it."
        )
    return wanted
