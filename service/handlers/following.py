"""What a replica follows: logs that other replicas append to, and what it knows of each."""

from collections.abc import Mapping
from typing import Protocol


class Followed(Protocol):
    """The logs of one folder. Event loop only."""

    folder: str
    """The first part of these logs; names are those below it, as in `RecordLogs.names`."""

    def lengths(self) -> Mapping[str, int]:
        """How many records of each log requests see the outcome of."""

    async def follow(self, name: str, length: int) -> None:
        """Unless requests see the outcome of that many records already, let them see that of all
        that the store shows.

        Raises `StoreUnavailable`, or `ConfigurationError` when the log is damaged; what requests
        see has not changed then.
        """
