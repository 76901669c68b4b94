"""Append-only logs of small records: the truth about names, tenants and keys, and the audit.

A log goes by a path of plain parts (`journal/roman`, `keys/7f3a`). Its records are numbered from 0
without gaps; whoever creates a number first has it, which orders concurrent writers without a lock
that could be lost.
"""

from collections.abc import Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]
"""JSON: what is read equals what was appended, but for tuples, which come back as lists."""


class RecordLogs(Protocol):
    """Blocking and thread-safe. What `append` has returned from survives a crash at any later
    moment, and whoever reads after that sees it, on whatever machine."""

    def names(self, prefix: str) -> list[str]:
        """Logs below `prefix/`, sorted, without the prefix: one or more parts each."""

    def lengths(self, prefix: str) -> dict[str, int]:
        """How many records each log below `prefix/` has, by the names of `names`; reads none."""

    def read(self, log: str, start: int = 0) -> list[Record]:
        """Records from number `start` on; empty when there is no such log.

        Raises `ConfigurationError` when a record is damaged or missing.
        """

    def append(self, log: str, number: int, record: Record) -> None:
        """Raises FileExistsError when another writer was first, or `StoreFull`; nothing has changed
        then. With `StoreUnavailable` it is not known whether something has: whoever goes on looks
        first."""
