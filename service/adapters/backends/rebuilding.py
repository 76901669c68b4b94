"""Fills the mirror anew with what the store has, and lets every replica hear of all of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.adapters.backends.announcements import Announcement, Announcements
from service.adapters.backends.fleet_logs import FOLLOWED
from service.adapters.backends.mirror import LogMirror
from service.adapters.backends.records import RecordLogs
from service.errors import ConfigurationError

_NUM_READERS = 16


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Of the logs of one folder."""

    folder: str
    num_logs: int
    num_records: int
    num_dropped: int
    """Mirrored logs that the store does not have."""
    damaged: tuple[str, ...]
    """Logs that cannot be read, and are not mirrored."""


def rebuild(
    truth: RecordLogs, mirror: LogMirror, announcements: Announcements
) -> Iterator[Rebuilt]:
    """Blocking. Replicas may run meanwhile: what they append may be missing in the mirror
    afterwards, which then is not as long as the store and not trusted. Raises `StoreUnavailable`.
    """
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        for folder in FOLLOWED:
            names = truth.names(folder)
            strangers = mirror.read_all(folder).keys() - set(names)
            for name in strangers:
                mirror.drop(f"{folder}/{name}")
            copied = readers.map(
                lambda log: _copy(log, truth, mirror, announcements),
                [f"{folder}/{name}" for name in names],
            )
            lengths = dict(zip(names, copied, strict=True))
            damaged = tuple(name for name, length in lengths.items() if length is None)
            num_records = sum(length or 0 for length in lengths.values())
            num_logs = len(names) - len(damaged)
            yield Rebuilt(folder, num_logs, num_records, len(strangers), damaged)


def _copy(
    log: str, truth: RecordLogs, mirror: LogMirror, announcements: Announcements
) -> int | None:
    """How many records; None when they cannot be read."""
    try:
        records = truth.read(log)
    except ConfigurationError:
        mirror.drop(log)
        return None
    mirror.put(log, records)
    announcements.announce(Announcement(log, len(records)))
    return len(records)
