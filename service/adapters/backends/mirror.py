"""A copy of the logs that is read as a whole in one go, so that a start need not read each record
of a store that is far away. Never the truth: it may lack anything, or be gone.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from service.adapters.backends.records import Record


class LogMirror(Protocol):
    """Blocking and thread-safe. Everything raises `StoreUnavailable` when it cannot be asked."""

    def read_all(self, prefix: str) -> Mapping[str, Sequence[Record]]:
        """Every log below `prefix/` that it has, by the names of `RecordLogs.names`."""

    def append(self, log: str, number: int, record: Record) -> None:
        """Ignored unless it has exactly `number` records of the log: a gap is never mirrored."""

    def put(self, log: str, records: Sequence[Record]) -> None:
        """In place of whatever it had of the log."""

    def drop(self, log: str) -> None:
        """Nothing is left of the log."""
