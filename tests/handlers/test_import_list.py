"""Imports of one replica as another one tells of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from service.adapters.backends.import_board import Notice, Record
from service.errors import StoreUnavailable
from service.handlers import import_list
from service.handlers.import_list import MAX_KEPT, Import, ImportList
from service.handlers.import_views import ImportState, ImportView
from tests.waiting import until_async


@dataclass
class SharedBoard:
    """What Redis is to replicas."""

    records: dict[str, Record] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    unwanted: set[str] = field(default_factory=set)
    is_away: bool = False
    num_tellings: int = 0

    async def tell(self, import_id: str, tenant: str, record: Record) -> bool:
        self._check()
        self.num_tellings += 1
        self.records[import_id] = record
        return import_id in self.unwanted

    async def get(self, import_id: str) -> Notice | None:
        self._check()
        record = self.records.get(import_id)
        return None if record is None else Notice(record, import_id not in self.dead)

    async def of_tenant(self, tenant: str) -> Sequence[Notice]:
        self._check()
        return [
            Notice(record, import_id not in self.dead)
            for import_id, record in self.records.items()
            if record["tenant"] == tenant
        ]

    async def ask_to_stop(self, import_id: str) -> None:
        self._check()
        self.unwanted.add(import_id)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")


def view(import_id: str, at: float = 0.0, **more: Any) -> ImportView:
    return ImportView(import_id, "t", "a", "hf://org/repo", at, **more)


FETCHING = {"state": ImportState.FETCHING}


@pytest.fixture
def board() -> SharedBoard:
    return SharedBoard()


def test_a_replica_tells_of_anothers_imports(board: SharedBoard) -> None:
    async def main() -> None:
        here, there = ImportList(board, 60.0), ImportList(board, 60.0)
        one = Import(view("i1", 1.0, **FETCHING), "hf")
        there.add(one)
        await there.tell(one)
        assert await here.find("i1") == one.view
        assert await here.find("i2") is None
        here.add(Import(view("i2", 2.0), "hf"))
        assert [found.id for found in await here.of_tenant("t")] == ["i2", "i1"]
        one.view = replace(one.view, num_bytes=7)
        own = await there.of_tenant("t")
        assert own == [one.view], "of its own it knows better"

    asyncio.run(main())


def test_what_a_dead_replica_left_has_failed(board: SharedBoard) -> None:
    async def main() -> None:
        here, there = ImportList(board, 60.0), ImportList(board, 60.0)
        for one in (view("i1", **FETCHING), view("i2", state=ImportState.READY)):
            await there.tell(Import(one, "hf"))
        board.dead |= {"i1", "i2"}
        interrupted, ready = await here.find("i1"), await here.find("i2")
        assert interrupted is not None
        assert ready is not None
        assert (interrupted.state, ready.state) == (ImportState.FAILED, ImportState.READY)
        assert interrupted.failure is not None
        assert interrupted.failure.kind == "ImportInterrupted"

    asyncio.run(main())


def test_the_one_that_runs_it_stops_it(board: SharedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_list, "_BEAT_S", 0.01)

    async def main() -> None:
        here, there = ImportList(board, 60.0), ImportList(board, 60.0)
        one = Import(view("i1", **FETCHING), "hf")
        one.task = asyncio.create_task(asyncio.sleep(60))
        there.add(one)
        await there.start()
        await until_async(lambda: board.records)
        await here.ask_to_stop("i1")
        await until_async(one.task.cancelled)
        await there.close()

    asyncio.run(main())


def test_who_is_asked_twice_to_stop_cleans_up_once() -> None:
    async def main() -> None:
        is_clean = []

        async def fetch() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                is_clean.append(True)

        one = Import(view("i1", **FETCHING), "hf", asyncio.create_task(fetch()))
        await asyncio.sleep(0)
        one.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.stop()
        await asyncio.wait({one.task} if one.task else set())
        assert is_clean == [True]

    asyncio.run(main())


def test_what_cannot_be_an_id_is_not_looked_for(board: SharedBoard) -> None:
    board.records["i1:alive"] = {"tenant": "t"}
    assert asyncio.run(ImportList(board, 60.0).find("i1:alive")) is None


def test_an_end_is_told_until_it_is_known(
    board: SharedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_list, "_BEAT_S", 0.01)

    async def main() -> None:
        there = ImportList(board, 60.0, lambda: 0.0)
        one = Import(view("i1", state=ImportState.READY, finished_at=0.0), "hf")
        there.add(one)
        board.is_away = True
        await there.tell(one)
        await there.start()
        board.is_away = False
        await until_async(lambda: one.is_told)
        assert board.num_tellings == 1
        await there.close()
        board.is_away = True
        with pytest.raises(StoreUnavailable):
            await there.find("i2")
        assert await there.find("i1") == one.view

    asyncio.run(main())


def test_so_many_of_a_tenant_are_kept() -> None:
    async def main() -> None:
        here = ImportList(SharedBoard(), 60.0, lambda: 0.0)
        for number in range(MAX_KEPT + 2):
            here.add(Import(view(f"i{number}", state=ImportState.READY, finished_at=0.0), "hf"))
        here.add(Import(view("running"), "hf"))
        here.forget_old()
        assert (here.own("i0"), here.own("i1")) == (None, None)
        assert here.own("i2") is not None
        assert here.own("running") is not None

    asyncio.run(main())
