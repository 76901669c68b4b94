"""How a replica tells the others that a log has grown. Lost ones cost time, never truth: the logs
say what happened, and whoever may have missed something compares lengths with them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Announcement:
    log: str
    """As in `RecordLogs`."""
    length: int
    """Records that it has at least."""


class Announcements(Protocol):
    @property
    def is_up(self) -> bool:
        """Whether what is announced now reaches the others, as far as is known."""

    def announce(self, announcement: Announcement) -> None:
        """Blocking and thread-safe. Raises `StoreUnavailable` when it may not have been heard."""

    def listen(self) -> AsyncIterator[Announcement | None]:
        """For ever, those of every replica, this one's own included. None: some may have been
        missed (at the start, and after every interruption), so compare everything."""
