"""The logs of a replica: what is written stands and is told; the mirror is no authority."""

import asyncio
from collections.abc import Sequence

import pytest

from service.adapters.backends.announcements import Announcement
from service.adapters.backends.fleet_logs import FleetLogs
from service.adapters.backends.records import Record
from service.errors import ConfigurationError, StoreUnavailable
from tests.adapters.backends.memory_fleet import Exchange, MemoryAnnouncements, MemoryMirror
from tests.fakes import MemoryLogs

LOG = "journal/a"


class CountingLogs(MemoryLogs):
    def __init__(self) -> None:
        super().__init__()
        self.read_logs: list[str] = []
        self.damaged: set[str] = set()

    def read(self, log: str, start: int = 0) -> list[Record]:
        self.read_logs.append(log)
        if log in self.damaged:
            raise ConfigurationError(f"{log} is damaged.")
        return super().read(log, start)


class Told(MemoryAnnouncements):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.announced: list[Announcement] = []
        self.fails = False

    def announce(self, announcement: Announcement) -> None:
        if self.fails:
            raise StoreUnavailable("cut")
        super().announce(announcement)
        self.announced.append(announcement)


class Place:
    def __init__(self) -> None:
        self.exchange, self.truth = Exchange(), CountingLogs()
        self.told = Told(self.exchange)
        self.mirror = MemoryMirror(self.exchange)
        self.logs = FleetLogs(self.truth, self.mirror, self.told)

    def mirrored(self, name: str) -> Sequence[Record] | None:
        return self.mirror.read_all("journal").get(name)


@pytest.fixture
def place() -> Place:
    return Place()


def test_an_append_is_in_the_store_in_the_mirror_and_announced(place: Place) -> None:
    place.logs.append(LOG, 0, {"n": 0})
    place.logs.append(LOG, 1, {"n": 1})
    assert place.truth.read(LOG) == place.logs.read(LOG) == place.mirrored("a")
    assert place.logs.read(LOG, 1) == [{"n": 1}]
    assert place.told.announced == [Announcement(LOG, 1), Announcement(LOG, 2)]


def test_who_loses_a_race_has_changed_nothing(place: Place) -> None:
    place.logs.append(LOG, 0, {"n": 0})
    with pytest.raises(FileExistsError):
        place.logs.append(LOG, 0, {"n": "other"})
    assert place.mirrored("a") == [{"n": 0}]
    assert len(place.told.announced) == 1


def test_nothing_is_written_that_others_could_not_hear_of(place: Place) -> None:
    place.exchange.cut()
    for log in (LOG, "keys/ab", "tenants/t"):
        with pytest.raises(StoreUnavailable) as refused:
            place.logs.append(log, 0, {})
        assert refused.value.retry_after > 0
        assert place.truth.read(log) == []


def test_what_nobody_follows_is_written_all_the_same(place: Place) -> None:
    place.exchange.cut()
    place.logs.append("audit/2026-01-01", 0, {"n": 0})
    assert place.truth.read("audit/2026-01-01") == [{"n": 0}]


def test_what_is_written_stands_though_it_cannot_be_told_and_is_told_later(place: Place) -> None:
    place.told.fails = True
    place.logs.append(LOG, 0, {"n": 0})
    place.logs.append(LOG, 1, {"n": 1})
    assert len(place.truth.read(LOG)) == 2
    assert place.logs.num_untold == 2
    with pytest.raises(StoreUnavailable):
        place.logs.tell_again()
    place.told.fails = False
    place.logs.tell_again()
    place.logs.tell_again()
    assert place.told.announced == [Announcement(LOG, 2)]


def test_a_start_reads_the_mirror_where_it_is_as_long_as_the_store(place: Place) -> None:
    for name, length in (("same", 2), ("short", 2), ("lost", 1)):
        for number in range(length):
            place.logs.append(f"journal/{name}", number, {"n": number})
    place.mirror.put("journal/short", [{"n": 0}])
    place.mirror.drop("journal/lost")
    place.truth.read_logs.clear()
    with place.logs.mirrored("journal"):
        read = {name: place.logs.read(f"journal/{name}") for name in place.logs.names("journal")}
    assert read == {"same": [{"n": 0}, {"n": 1}], "short": [{"n": 0}, {"n": 1}], "lost": [{"n": 0}]}
    assert sorted(place.truth.read_logs) == ["journal/lost", "journal/short"]
    assert place.mirror.read_all("journal") == read, "the next start finds them"
    place.logs.read("journal/same")
    assert place.truth.read_logs[-1] == "journal/same", "afterwards the store is read"


def test_a_start_without_the_mirror_reads_the_store(place: Place) -> None:
    place.logs.append(LOG, 0, {"n": 0})
    place.exchange.cut()
    with place.logs.mirrored("journal", "keys"):
        assert place.logs.read(LOG) == [{"n": 0}]


def test_a_damaged_log_is_told_of_by_whoever_reads_it(place: Place) -> None:
    place.logs.append(LOG, 0, {"n": 0})
    place.logs.append("journal/b", 0, {"n": 0})
    place.exchange.logs.clear()
    place.truth.damaged.add(LOG)
    with place.logs.mirrored("journal"):
        assert place.logs.read("journal/b") == [{"n": 0}]
        with pytest.raises(ConfigurationError):
            place.logs.read(LOG)


def test_listeners_hear_of_what_another_replica_appends(place: Place) -> None:
    async def scenario() -> None:
        listening = MemoryAnnouncements(place.exchange).listen()
        assert await anext(listening) is None
        await asyncio.to_thread(place.logs.append, LOG, 0, {})
        assert await anext(listening) == Announcement(LOG, 1)

    asyncio.run(scenario())
