"""A replica keeps up with the others, whatever becomes of what they announce."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from service.adapters.backends.announcements import Announcement
from service.adapters.backends.fleet_logs import FleetLogs
from service.errors import ConfigurationError, StoreUnavailable
from service.handlers.follower import Follower
from tests.adapters.backends.memory_fleet import Exchange, MemoryAnnouncements, MemoryMirror
from tests.fakes import MemoryLogs

NEVER_S = 1000.0
"""Between two looks: what happens then does so because of an announcement."""


@dataclass
class Shown:
    """`Followed` that shows how many records it has read."""

    folder: str
    logs: MemoryLogs
    seen: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    on_follow: Callable[[str], Awaitable[None]] | None = None

    def lengths(self) -> dict[str, int]:
        return self.seen

    async def follow(self, name: str, length: int) -> None:
        self.order.append(name)
        if self.on_follow is not None:
            await self.on_follow(name)
        if name in self.damaged:
            raise ConfigurationError(f"{name} is damaged.")
        self.seen[name] = len(self.logs.read(f"{self.folder}/{name}"))


class Replica:
    def __init__(self, poll_s: float = NEVER_S) -> None:
        self.exchange, self.truth = Exchange(), MemoryLogs()
        self.announcements = MemoryAnnouncements(self.exchange)
        self.logs = FleetLogs(self.truth, MemoryMirror(self.exchange), self.announcements)
        self.tenants, self.journal = Shown("tenants", self.truth), Shown("journal", self.truth)
        followed = [self.tenants, self.journal]
        self.follower = Follower(self.logs, self.announcements, followed, poll_s)

    def write(self, log: str, number: int = 0, *, is_told: bool = True) -> None:
        """As another replica does."""
        self.truth.append(log, number, {"n": number})
        if is_told:
            self.announcements.announce(Announcement(log, number + 1))

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def run(replica: Replica, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await replica.follower.start()
        try:
            await replica.until(lambda: replica.follower.stats.num_comparisons > 0)
            await replica.until(lambda: replica.announcements.is_heard)
            await scenario()
        finally:
            await replica.follower.close()

    asyncio.run(main())


def test_a_start_returns_when_all_is_seen_or_the_store_is_away() -> None:
    replica, away = Replica(), Replica()
    for one in (replica, away):
        one.write("journal/a", is_told=False)

    def unreachable(prefix: str) -> dict[str, int]:
        raise StoreUnavailable("away")

    async def main() -> None:
        await replica.follower.start()
        assert replica.journal.seen == {"a": 1}
        away.truth.lengths = unreachable
        await away.follower.start()
        assert away.journal.seen == {}
        for one in (replica, away):
            await one.follower.close()

    asyncio.run(main())


def test_what_is_announced_is_read() -> None:
    replica = Replica()

    async def scenario() -> None:
        compared = replica.follower.stats.num_comparisons
        replica.write("journal/a")
        replica.write("journal/a", 1)
        replica.write("tenants/t")
        await replica.until(
            lambda: (
                (replica.journal.seen, replica.tenants.seen)
                == (
                    {"a": 2},
                    {"t": 1},
                )
            )
        )
        assert replica.follower.stats.num_comparisons == compared
        assert replica.follower.stats.num_announcements == 3
        assert replica.follower.stats.lag_s >= 0

    run(replica, scenario)


def test_the_start_finds_what_grew_before_anybody_listened() -> None:
    replica = Replica()
    replica.write("journal/a", is_told=False)
    replica.write("tenants/t", is_told=False)

    async def main() -> None:
        await replica.follower.start()
        assert (replica.journal.seen, replica.tenants.seen) == ({"a": 1}, {"t": 1})
        await replica.follower.close()

    asyncio.run(main())


def test_a_start_does_not_wait_for_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()

    def fail(prefix: str) -> dict[str, int]:
        raise StoreUnavailable("away")

    async def main() -> None:
        monkeypatch.setattr(replica.truth, "lengths", fail)
        await replica.follower.start()
        assert not replica.follower.stats.is_store_up
        await replica.follower.close()

    asyncio.run(main())


def test_what_was_lost_is_found_after_an_interruption() -> None:
    replica = Replica()

    async def scenario() -> None:
        replica.write("journal/a", is_told=False)
        replica.exchange.cut()
        replica.exchange.heal()
        await replica.until(lambda: replica.journal.seen == {"a": 1})

    run(replica, scenario)


def test_what_nobody_announced_is_found_by_looking() -> None:
    replica = Replica(poll_s=0.01)

    async def scenario() -> None:
        replica.write("journal/a", is_told=False)
        await replica.until(lambda: replica.journal.seen == {"a": 1})

    run(replica, scenario)


def test_what_is_announced_during_a_look_is_not_lost() -> None:
    replica = Replica()
    replica.write("journal/a", is_told=False)

    async def scenario() -> None:
        await replica.until(lambda: replica.journal.seen == {"a": 1})

        async def meanwhile(name: str) -> None:
            replica.journal.on_follow = None
            replica.write("journal/c")  # after the listing that this look works through
            replica.exchange.heal()  # and another interruption
            await asyncio.sleep(0.01)

        replica.journal.on_follow = meanwhile
        replica.write("journal/b", is_told=False)
        replica.exchange.heal()
        await replica.until(lambda: replica.journal.seen == {"a": 1, "b": 1, "c": 1})

    run(replica, scenario)


def test_a_damaged_log_stops_no_other_and_is_counted() -> None:
    replica = Replica()
    replica.journal.damaged.add("a")

    async def scenario() -> None:
        for name in "abc":
            replica.write(f"journal/{name}")
        await replica.until(lambda: replica.journal.seen == {"b": 1, "c": 1})
        replica.exchange.heal()
        replica.write("journal/d")
        await replica.until(lambda: "d" in replica.journal.seen)
        assert replica.follower.stats.num_failures >= 1
        replica.journal.damaged.clear()
        replica.exchange.heal()
        await replica.until(lambda: replica.journal.seen.get("a") == 1)

    run(replica, scenario)


def test_a_store_that_is_away_is_asked_again_and_nothing_is_lost() -> None:
    replica = Replica()

    async def scenario() -> None:
        async def away(name: str) -> None:
            replica.journal.on_follow = None
            raise StoreUnavailable("gone for a moment")

        replica.journal.on_follow = away
        replica.write("journal/a")
        await replica.until(lambda: not replica.follower.stats.is_store_up)
        await replica.until(lambda: replica.journal.seen == {"a": 1})
        await replica.until(lambda: replica.follower.stats.is_store_up)

    run(replica, scenario)


def test_announcements_of_what_nobody_follows_or_that_say_too_much_do_no_harm() -> None:
    replica = Replica()

    async def scenario() -> None:
        for log in ("audit/2026-01-01", "", "journal", "nothing/x"):
            replica.announcements.announce(Announcement(log, 1))
        replica.write("journal/a")
        replica.announcements.announce(Announcement("journal/a", 10**9))
        replica.write("journal/b")
        await replica.until(lambda: replica.journal.seen == {"a": 1, "b": 1})

    run(replica, scenario)


def test_listening_that_fails_begins_anew() -> None:
    replica = Replica()
    listen, num_begun = replica.announcements.listen, 0

    def failing():
        nonlocal num_begun
        num_begun += 1
        if num_begun == 1:
            raise RuntimeError("no such luck")
        return listen()

    replica.announcements.listen = failing

    async def scenario() -> None:
        await replica.until(lambda: num_begun == 2)
        replica.write("journal/a")
        await replica.until(lambda: replica.journal.seen == {"a": 1})

    run(replica, scenario)
