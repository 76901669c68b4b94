"""One tenant's reports wait for each other; nobody else waits for more than one of them."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from service.errors import Overloaded
from service.handlers.report_desk import MAX_WAITING, ReportDesk


async def report(desk: ReportDesk, asker: str, work: Callable[[], object]) -> object:
    async with desk.turn(asker):
        return await desk.read(work)


def test_a_flood_of_reports_stands_behind_the_others_and_is_bounded() -> None:
    may_end, done = threading.Event(), []

    async def main() -> None:
        desk = ReportDesk()
        flood = [
            asyncio.create_task(report(desk, "red", lambda: (may_end.wait(10), done.append("red"))))
            for _ in range(MAX_WAITING + 1)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await report(desk, "red", list)
        other = asyncio.create_task(report(desk, "blue", lambda: done.append("blue")))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.to_thread(len, "the default threads are free"), 5)
        may_end.set()
        await asyncio.gather(*flood, other)
        assert done == ["red", "blue", *["red"] * MAX_WAITING]
        assert not desk._turns

    asyncio.run(main())


def test_a_turn_lasts_as_long_as_its_reading() -> None:
    may_end, order = threading.Event(), []

    async def main() -> None:
        desk = ReportDesk()
        gone = asyncio.create_task(report(desk, "red", lambda: may_end.wait(10)))
        await asyncio.sleep(0.05)
        gone.cancel()
        later = asyncio.create_task(report(desk, "red", lambda: order.append("later")))
        await asyncio.sleep(0.05)
        assert not gone.done()
        assert desk._turns["red"].num_users == 2
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await later
        assert not desk._turns

    asyncio.run(main())
