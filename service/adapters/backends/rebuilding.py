"""Fills the mirror anew with what the store has, and lets every replica hear of all of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.adapters.backends.announcements import Announcement, Announcements
from service.adapters.backends.fleet_logs import FOLLOWED
from service.adapters.backends.mirror import LogMirror
from service.adapters.backends.mirroring import WholeLog, read_whole
from service.adapters.backends.records import RecordLogs


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Of the logs of one folder."""

    folder: str
    num_logs: int
    num_records: int
    num_dropped: int
    """Mirrored logs that the store does not have."""
    damaged: Mapping[str, str]
    """Logs that cannot be read, with the reasons; the mirror keeps what it has of them, which may
    be what is left."""


def rebuild(
    truth: RecordLogs, mirror: LogMirror, announcements: Announcements
) -> Iterator[Rebuilt]:
    """Blocking. Replicas may run meanwhile: what they append may be missing in the mirror
    afterwards, which then is not as long as the store and not trusted. Raises `StoreUnavailable`.
    """

    def copy(log: WholeLog) -> None:
        if not log.damage:
            mirror.put(log.name, log.records)
            announcements.announce(Announcement(log.name, len(log.records)))

    for folder in FOLLOWED:
        names = truth.names(folder)
        strangers = mirror.read_all(folder).keys() - set(names)
        for name in strangers:
            mirror.drop(f"{folder}/{name}")
        logs = read_whole(truth, [f"{folder}/{name}" for name in names], copy)
        yield Rebuilt(
            folder,
            num_logs=sum(not log.damage for log in logs),
            num_records=sum(len(log.records) for log in logs),
            num_dropped=len(strangers),
            damaged={log.name: log.damage for log in logs if log.damage},
        )
