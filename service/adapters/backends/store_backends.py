"""What an adapter store is put together from, whatever it lies on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.adapters.backends.contents import Originals, SharedForms
from service.adapters.backends.records import RecordLogs
from service.adapters.backends.usage import UsageStore


class StoreHold(Protocol):
    """The right of this process to work on the store."""

    def open(self, *, is_tidied: bool) -> None:
        """Take it, with a `work` folder that holds nothing unless it is not to be tidied; once is
        enough. Raises `ConfigurationError` when it is somebody else's, or cannot be reached or
        written."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreBackends:
    logs: RecordLogs
    originals: Originals
    usage: UsageStore
    hold: StoreHold
    work: Path
    """Where uploads are received and drafts written; this process's own while it has the hold."""
    forms: SharedForms | None = None
    """None where one process has always had the store to itself: its cache is enough."""
    shipped: Path | None = None
    """The folder into which people put adapters by hand, if there is one."""
    is_shared: bool = False
    """Other processes publish and collect here too."""
