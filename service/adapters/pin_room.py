"""How many bytes of host memory pins take, and who may take how many. Pure.

Content counts for each tenant that pins it: were it free where another has it, the room that is
left would tell that.
"""

from collections.abc import Mapping

from service.tenancy import DEFAULT_TENANT

Sizes = Mapping[str, int]
"""Bytes by digest."""

_TENANT_PART = 2
"""A tenant other than the operator's pins at most one of so many parts of the budget."""


class PinRoom:
    def __init__(self, budget_bytes: int | None) -> None:
        """None is no bound."""
        self._budget = budget_bytes
        self._taken: dict[str, dict[str, int]] = {}

    def take(self, tenant: str, sizes: Sizes) -> None:
        self._taken.setdefault(tenant, {}).update(sizes)

    def more(self, tenant: str, sizes: Sizes) -> int:
        """Bytes that these need beside what the tenant has."""
        own = self._taken.get(tenant, {})
        return sum(size for digest, size in sizes.items() if digest not in own)

    def exceeded(self, tenant: str, sizes: Sizes) -> int | None:
        """The limit that these would go beyond; None when they fit."""
        if self._budget is None:
            return None
        more = self.more(tenant, sizes)
        share = self._budget // _TENANT_PART
        own = sum(self._taken.get(tenant, {}).values())
        if tenant != DEFAULT_TENANT and own + more > share:
            return share
        in_all = sum(sum(taken.values()) for taken in self._taken.values())
        return self._budget if in_all + more > self._budget else None
