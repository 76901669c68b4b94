"""How urgent a request may be."""

from service.errors import PermissionDenied
from service.tenancy import Principal


def check_priority(wanted: int | None, principal: Principal) -> int:
    """The priority that a request gets. Raises `PermissionDenied` when its key allows less."""
    most_urgent = principal.min_priority
    if wanted is None:
        return max(0, most_urgent)
    if wanted < most_urgent and not principal.is_operator:
        raise PermissionDenied(
            f"This key allows priorities from {most_urgent} on (lower is more urgent), "
            f"so priority {wanted} is not for it."
        )
    return wanted
