"""Who may compile next: one tenant after another, however much each of them brings."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from service.adapters.compiling import CompileOutcome
from service.handlers.turns import Turns
from tests.adapters.house import House
from tests.fakes import base_description
from tests.fuzz.app import HashCompiler
from tests.handlers.cheap import folder


class Workshop:
    """Notes who has a turn; each lasts until it is finished."""

    def __init__(self, num_at_once: int) -> None:
        self.turns = Turns(num_at_once)
        self.began: list[str] = []
        self.done = asyncio.Event()

    async def work(self, tenant: str) -> None:
        async with self.turns.of(tenant):
            self.began.append(tenant)
            await self.done.wait()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_one_of_each_tenant_that_waits_then_the_next_of_each() -> None:
    async def scenario() -> None:
        shop = Workshop(1)
        tasks = [asyncio.create_task(shop.work(tenant)) for tenant in "rrrrbgb"]
        await asyncio.sleep(0)
        assert shop.began == ["r"]
        shop.done.set()
        await asyncio.gather(*tasks)
        assert "".join(shop.began) == "rrbgrbr"

    run(scenario)


def test_no_more_at_once_than_there_are() -> None:
    async def scenario() -> None:
        shop = Workshop(2)
        tasks = [asyncio.create_task(shop.work(tenant)) for tenant in "abc"]
        await asyncio.sleep(0)
        assert shop.began == ["a", "b"]
        shop.done.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_who_is_gone_before_or_as_it_is_its_turn_hands_it_on() -> None:
    async def scenario() -> None:
        shop = Workshop(1)
        first, second, third, last = (asyncio.create_task(shop.work(one)) for one in "abcd")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)  # the turn is given to the third, which has not run since
        third.cancel()
        shop.done.set()
        await last
        assert shop.began == ["a", "d"]
        await shop.work("e")

    run(scenario)


def test_who_leaves_is_not_troubled_by_who_is_cancelled_at_the_same_moment() -> None:
    async def scenario() -> None:
        shop = Workshop(1)
        tasks = first, second, last = [asyncio.create_task(shop.work(one)) for one in "abc"]
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()  # the first runs, and gives its turn back, before the second does
        shop.done.set()
        await asyncio.wait(tasks)
        assert first.cancelled()
        assert second.cancelled()
        await last
        assert shop.began == ["a", "c"]
        await shop.work("d")

    run(scenario)


class SlowCompiler(HashCompiler):
    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.seen: list[int] = []

    def compile(self, source: Path, *args: Any, **options: Any) -> CompileOutcome:
        self.seen.append(json.loads((source / "adapter_config.json").read_text())["number"])
        assert self.may_end.wait(10)
        return super().compile(source, *args, **options)


def test_a_tenants_many_uploads_do_not_hold_up_anothers(tmp_path: Path) -> None:
    compiler = SlowCompiler()
    house = House(tmp_path / "store", base_description(), compiler=compiler)

    async def scenario() -> None:
        await house.service.start()
        names = ["red/a", "red/b", "red/c", "blue/a"]
        tasks = [
            asyncio.create_task(house.publish(name, folder(tmp_path, number)))
            for number, name in enumerate(names)
        ]
        await asyncio.sleep(0.05)
        compiler.may_end.set()
        await asyncio.gather(*tasks)
        await house.service.close()

    run(scenario)
    assert compiler.seen == [0, 1, 3, 2]
