"""Who asks, and for whom: tenants, roles and what a key allows. Nouns; knows no HTTP.

An adapter belongs to the tenant that published it. Inside the service it goes by its *qualified*
name: the name itself for the tenant `default`, whose adapters everybody sees, and `tenant/name` for
every other. Only the edge translates between that and what a client writes.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"
"""The operator's own: folders of the store, keys of the settings, and everybody without keys."""

MAX_PRIORITY = 1000
"""Priorities are whole numbers from minus this to this; lower is more urgent."""

TENANT_PATTERN = "[a-z0-9][a-z0-9-]{0,62}"

OTHERS = "_other"
"""In metrics and usage: all for whom there is no row of their own. No adapter and no tenant can be
named so."""

TENANT_RULE = "1 to 63 characters: lower-case letters, digits and '-', not beginning with '-'"


class Role(StrEnum):
    """Each includes those before it."""

    USE = "use"
    """Generate, and look at adapters."""
    PUBLISH = "publish"
    """Publish, move, verify and delete the tenant's adapters."""
    ADMIN = "admin"
    """The tenant's keys, usage and audit log; in `default`, everybody's."""

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request acts for, and what it may do."""

    tenant: str = DEFAULT_TENANT
    role: Role = Role.ADMIN
    key_id: str = ""
    """Public id of the key that was sent, `settings` for one of those; empty = none was needed."""
    min_priority: int = 0
    """The most urgent `priority` that the key allows: lower is earlier."""

    @property
    def is_operator(self) -> bool:
        """May see and change what belongs to every tenant."""
        return self.tenant == DEFAULT_TENANT and self.role is Role.ADMIN

    def acts_for(self, tenant: str) -> bool:
        """Whether what belongs to `tenant` is its own, or it is the operator."""
        return self.is_operator or self.tenant == tenant


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may take; None = unlimited."""

    requests_per_minute: int | None = None
    """Completions that are begun in any 60 seconds."""
    tokens_per_minute: int | None = None
    """Prompt and completion tokens of those."""
    max_concurrent_requests: int | None = None
    """Completions whose answer is not over."""
    max_adapters: int | None = None
    """Names that lead to a version."""
    max_adapter_bytes: int | None = None
    """Of its adapters' different contents, also of those that other tenants have too."""


UNLIMITED = TenantLimits()


@dataclass(frozen=True, slots=True)
class WindowState:
    """What is left of a limit per minute."""

    limit: int
    remaining: int
    reset_ms: int
    """Until all of it is free again, if nothing more is taken."""


@dataclass(frozen=True, slots=True)
class RateState:
    """Of a tenant's limits per minute; None where it is unlimited."""

    requests: WindowState | None = None
    tokens: WindowState | None = None


ANYONE = Principal()
"""Who asks a server without keys: it may do everything."""

OF_SETTINGS = Principal(key_id="settings")
"""Whoever sends a key of the settings; ids of managed keys are hexadecimal."""


Visibility = tuple[str, ...]
"""Tenants that may use an adapter beside its owner."""

PRIVATE: Visibility = ()
PUBLIC: Visibility = ("*",)
"""Everybody; `*` is no tenant's name."""


def default_visibility(name: str) -> Visibility:
    """Of an adapter, by its qualified name, of which nobody has said anything."""
    return PUBLIC if tenant_of(name) == DEFAULT_TENANT else PRIVATE


def may_use(principal: Principal, name: str, visibility: Visibility) -> bool:
    is_owner = principal.acts_for(tenant_of(name))
    return is_owner or visibility == PUBLIC or principal.tenant in visibility


def is_valid_tenant(tenant: str) -> bool:
    return re.fullmatch(TENANT_PATTERN, tenant) is not None


def qualified(tenant: str, name: str) -> str:
    return name if tenant == DEFAULT_TENANT else f"{tenant}/{name}"


def tenant_of(qualified_name: str) -> str:
    tenant, slash, _ = qualified_name.rpartition("/")
    return tenant if slash else DEFAULT_TENANT


def bare_name(qualified_name: str) -> str:
    return qualified_name.rpartition("/")[2]
