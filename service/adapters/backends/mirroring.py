"""Whole logs of the store, many at a time, for the mirror."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.adapters.backends.records import Record, RecordLogs
from service.errors import ConfigurationError

_NUM_READERS = 16
"""A store may be far away, so many logs are read at once."""


@dataclass(frozen=True, slots=True)
class WholeLog:
    name: str
    records: tuple[Record, ...] = ()
    damage: str = ""
    """Why it cannot be read, as a sentence; there are no records then."""


def read_whole(
    truth: RecordLogs, names: Collection[str], take: Callable[[WholeLog], object]
) -> list[WholeLog]:
    """In the order of `names`; `take` sees each as soon as it is read, in the thread that read it.
    Blocking."""

    def read(name: str) -> WholeLog:
        try:
            found = WholeLog(name, tuple(truth.read(name)))
        except ConfigurationError as error:
            found = WholeLog(name, damage=str(error))
        take(found)
        return found

    with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="mirror") as readers:
        return list(readers.map(read, names))
