"""`RecordLogs` of a replica among others: the store's own, and whoever follows them is told.

What others must hear of is refused while they could not: nothing is written then. What is written
stands, told or not, since the store is the truth; what could not be told is told later, and who
missed it compares lengths.
"""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import structlog

from service.adapters.backends.announcements import Announcement, Announcements
from service.adapters.backends.mirror import LogMirror
from service.adapters.backends.mirroring import WholeLog, read_whole
from service.adapters.backends.records import Record, RecordLogs
from service.errors import StoreUnavailable

FOLLOWED = ("tenants", "keys", "journal")
"""Logs that replicas follow, by their first part, in the order in which they refer to each other.
All others (the audit) are read when somebody asks."""

AWAY = "The replicas cannot tell each other of changes now, so none is made; ask again soon."

log = structlog.get_logger(__name__)


class FleetLogs:
    def __init__(
        self,
        truth: RecordLogs,
        mirror: LogMirror,
        announcements: Announcements,
        followed: Collection[str] = FOLLOWED,
    ) -> None:
        self._truth = truth
        self._mirror = mirror
        self._announcements = announcements
        self._followed = frozenset(followed)
        self._mirrored: Mapping[str, Sequence[Record]] = {}
        """Whole logs as the store has them; only within `mirrored`."""
        self._untold: dict[str, int] = {}
        self._lock = threading.Lock()
        """Of what is untold: threads append."""
        self.num_untold = 0
        """Changes that stand though the others could not be told at once, since the start."""

    def names(self, prefix: str) -> list[str]:
        return self._truth.names(prefix)

    def lengths(self, prefix: str) -> dict[str, int]:
        return self._truth.lengths(prefix)

    def read(self, log: str, start: int = 0) -> list[Record]:
        known = self._mirrored.get(log)
        return self._truth.read(log, start) if known is None else list(known[start:])

    def append(self, log: str, number: int, record: Record) -> None:
        if log.partition("/")[0] not in self._followed:
            self._truth.append(log, number, record)
            return
        if not self._announcements.is_up:
            raise StoreUnavailable(AWAY)
        self._truth.append(log, number, record)
        self._tell(log, number, record)

    @contextmanager
    def mirrored(self, *prefixes: str) -> Iterator[None]:
        """Within the block logs below these are read from the mirror, those that it has as long as
        the store. The others are read there, and mirrored for the next start."""
        self._mirrored = {
            name: records for prefix in prefixes for name, records in self._whole(prefix).items()
        }
        try:
            yield
        finally:
            self._mirrored = {}

    def tell_again(self) -> None:
        """What could not be told when it happened. Raises `StoreUnavailable` if it still cannot."""
        for name, length in tuple(self._untold.items()):
            self._announcements.announce(Announcement(name, length))
            with self._lock:
                if self._untold.get(name) == length:
                    del self._untold[name]

    def _whole(self, prefix: str) -> Mapping[str, Sequence[Record]]:
        """Every log below `prefix/` that is not damaged: whoever reads one that is says so."""
        lengths = self._truth.lengths(prefix)
        try:
            mirrored = self._mirror.read_all(prefix)
        except StoreUnavailable as error:
            log.warning("mirror_not_read", logs=prefix, reason=str(error))
            mirrored = {}
        known = {
            f"{prefix}/{name}": records
            for name, records in mirrored.items()
            if len(records) == lengths.get(name)
        }
        missing = [log for log in (f"{prefix}/{name}" for name in lengths) if log not in known]
        read = read_whole(self._truth, missing, self._put)
        return known | {one.name: one.records for one in read if not one.damage}

    def _put(self, whole: WholeLog) -> None:
        if not whole.damage:
            with suppress(StoreUnavailable):
                self._mirror.put(whole.name, whole.records)

    def _tell(self, name: str, number: int, record: Record) -> None:
        try:
            self._mirror.append(name, number, record)
            self._announcements.announce(Announcement(name, number + 1))
        except StoreUnavailable as error:
            with self._lock:
                self._untold[name] = max(number + 1, self._untold.get(name, 0))
                self.num_untold += 1
            log.warning("change_not_told", log=name, reason=str(error))
