"""What a replica tells of its imports the others know for a while, and that it lives for less."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.adapters.backends.redis import import_board
from service.adapters.backends.redis.import_board import RedisImportBoard
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.status import LinkPace
from service.errors import StoreUnavailable
from tests.adapters.backends.conftest import Connect
from tests.fault_proxy import FaultProxy
from tests.redis_server import needs_redis
from tests.waiting import until_async

pytestmark = needs_redis

QUICK = LinkPace(heartbeat_s=0.1, min_backoff_s=0.01, max_backoff_s=0.05, alive_s=0.1)


def record(number: int, state: str = "fetching") -> dict[str, Any]:
    return {"id": f"i{number}", "created_at": number + 0.5, "state": state}


def run(scenario: Callable[[], Awaitable[None]], *links: RedisLink) -> None:
    async def main() -> None:
        try:
            await scenario()
        finally:
            for link in links:
                await link.aclose()

    asyncio.run(main())


def test_the_others_know_what_one_tells(connect: Connect) -> None:
    links = connect("one"), connect("two")
    one, two = (RedisImportBoard(link, 60.0) for link in links)

    async def scenario() -> None:
        assert await two.get("i1") is None
        assert not await one.tell("i1", "team-a", record(1))
        assert not await one.tell("i2", "team-b", record(2))
        assert not await one.tell("i1", "team-a", record(1, "ready"))
        found = await two.get("i1")
        assert found is not None
        assert (found.record, found.is_alive) == (record(1, "ready"), True)
        assert [notice.record for notice in await two.of_tenant("team-a")] == [record(1, "ready")]

    run(scenario, *links)


def test_who_runs_it_hears_that_it_is_to_stop(connect: Connect) -> None:
    links = connect("one"), connect("two")
    one, two = (RedisImportBoard(link, 60.0) for link in links)

    async def scenario() -> None:
        await one.tell("i1", "t", record(1))
        await one.tell("i2", "t", record(2))
        await two.ask_to_stop("i1")
        assert await one.tell("i1", "t", record(1))
        assert not await one.tell("i2", "t", record(2))

    run(scenario, *links)


def test_silence_is_death_and_the_end_of_its_time_is_forgotten(connect: Connect) -> None:
    link = connect(pace=QUICK)
    board, brief = RedisImportBoard(link, 60.0), RedisImportBoard(link, 0.1)

    async def scenario() -> None:
        await board.tell("i1", "t", record(1))
        await brief.tell("i2", "u", record(2))
        alive, known = [True], [True]

        async def look() -> None:
            while alive[0] or known[0]:
                found, other = await board.get("i1"), await board.get("i2")
                assert found is not None
                alive[0], known[0] = found.is_alive, other is not None
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        await until_async(looking.done)
        await looking
        assert [notice.is_alive for notice in await board.of_tenant("t")] == [False]
        assert await board.of_tenant("u") == []

    run(scenario, link)


def test_of_many_the_latest_are_shown(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_board, "MAX_SHOWN", 2)
    link = connect()
    board = RedisImportBoard(link, 60.0)

    async def scenario() -> None:
        for number in (3, 1, 2):
            await board.tell(f"i{number}", "t", record(number))
        assert [one.record["id"] for one in await board.of_tenant("t")] == ["i2", "i3"]

    run(scenario, link)


def test_of_many_the_oldest_go_once_they_do_not_run(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_board, "MAX_SHOWN", 1)
    slow, quick = connect("one"), connect("two", pace=QUICK)
    running, over = RedisImportBoard(slow, 60.0), RedisImportBoard(quick, 60.0)

    async def scenario() -> None:
        await running.tell("i1", "t", record(1))
        await over.tell("i2", "t", record(2))
        await over.ask_to_stop("i2")

        async def until_gone() -> None:
            while await over.get("i2") is not None:
                await running.tell("i3", "t", record(3))

        await asyncio.wait_for(until_gone(), 20)
        assert await running.get("i1") is not None
        assert not await over.tell("i2", "t", record(2)), "nor does anybody ask to stop it"

    run(scenario, slow, quick)


def test_without_redis_nothing_is_known(connect: Connect, proxy: FaultProxy) -> None:
    link = connect()
    board = RedisImportBoard(link, 60.0)

    async def scenario() -> None:
        await board.tell("i1", "t", record(1))
        proxy.refuse()
        with pytest.raises(StoreUnavailable):
            await board.get("i1")

    run(scenario, link)
