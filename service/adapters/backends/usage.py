"""What was used, per tenant, adapter, version and day: sums that only grow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from service.tenancy import OTHERS


@dataclass(frozen=True, slots=True)
class UsageKey:
    tenant: str
    """Whose request it was, not whose adapter."""
    adapter: str
    """Qualified name; the base by its own."""
    version: str
    """Its number; empty where there is none."""

    @property
    def folded(self) -> "UsageKey":
        return UsageKey(self.tenant, OTHERS, "")


@dataclass(frozen=True, slots=True)
class Usage:
    requests: int = 0
    errors: int = 0
    """Of the requests, those that ended with one."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens."""
    completion_tokens: int = 0
    loaded_bytes: int = 0
    """Of adapters, brought into memory because of these requests."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.requests + other.requests,
            self.errors + other.errors,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.loaded_bytes + other.loaded_bytes,
        )


Rows = Mapping[UsageKey, Usage]


class UsageStore(Protocol):
    """Blocking."""

    def add(self, day: date, rows: Rows) -> None:
        """Durable when it returns; when it raises, nothing was added."""

    def read(self, day: date) -> Rows:
        """Empty for a day without any."""


def add_row(rows: dict[UsageKey, Usage], key: UsageKey, usage: Usage, max_rows: int) -> None:
    """Totals per tenant stay true whatever the limit; a tenant that is new then has one row."""
    if key not in rows and len(rows) >= max_rows:
        key = key.folded
    known = rows.get(key)
    rows[key] = usage if known is None else known + usage
