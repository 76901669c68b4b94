"""Usage is counted once, survives what it must, and adds up however it is asked for."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from service.adapters.backends.usage import Usage, UsageKey
from service.core import Timeline
from service.handlers.accounting import AnswerSummary, Outcome
from service.handlers.usage import Dimension, UsageLedger, UsageRow
from service.tenancy import OTHERS, Principal
from tests.fakes import MemoryUsage, adapter_ref

DAY = date(2026, 3, 5)
NEXT = date(2026, 3, 6)
ONE = Usage(1, 0, 10, 4, 20, 0)
SUMMARY = AnswerSummary(
    Principal("red"), "r", adapter_ref("roman", 3), 10, 4, 20, Outcome.COMPLETED, 1.0, 0.1
)


class Scene:
    def __init__(self) -> None:
        self.store = MemoryUsage()
        self.now = datetime(2026, 3, 5, 12, tzinfo=UTC).timestamp()

    def ledger(self, **fields: Any) -> UsageLedger:
        return UsageLedger(self.store, "tiny", 3600.0, lambda: self.now, **fields)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def rows(ledger: UsageLedger, *group_by: Dimension, **fields: Any) -> list[UsageRow]:
    values = {"tenant": None, "limit": 1000, **fields}
    return [*(await ledger.report(DAY, NEXT, group_by, **values)).rows]


def test_an_answer_is_counted_by_tenant_adapter_version_and_day(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count(SUMMARY)
        ledger.count(replace(SUMMARY, outcome=Outcome.FAILED))
        ledger.count(replace(SUMMARY, outcome=Outcome.ABORTED))
        ledger.count(replace(SUMMARY, adapter=None))
        scene.now += 86400
        loads = tuple(Timeline(arrived=0.0, loaded_bytes=n) for n in (1024, 0))
        ledger.count(replace(SUMMARY, timelines=loads))
        assert await rows(ledger, *Dimension) == [
            UsageRow(DAY, "red", "roman", "3", Usage(3, 1, 30, 12, 60, 0)),
            UsageRow(DAY, "red", "tiny", "", ONE),
            UsageRow(NEXT, "red", "roman", "3", replace(ONE, loaded_bytes=1024)),
        ]

    run(main())


def test_every_grouping_adds_up_to_the_same(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        for tenant in ("red", "blue"):
            for version in (1, 2):
                for name in ("roman", "slug"):
                    ref = adapter_ref(name, version)
                    ledger.count(replace(SUMMARY, principal=Principal(tenant), adapter=ref))
        sizes = {}
        for group_by in ((), *((one,) for one in Dimension), tuple(Dimension)):
            page = await ledger.report(DAY, NEXT, group_by, None, 1000)
            assert sum((row.usage for row in page.rows), Usage()) == page.total
            assert page.total.requests == 8
            sizes[group_by] = len(page.rows)
        assert [*sizes.values()] == [1, 1, 2, 2, 4, 8]

    run(main())


def test_what_is_pending_and_what_is_written_are_one_sum(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count(SUMMARY)
        await ledger.flush()
        assert scene.store.days[DAY][UsageKey("red", "roman", "3")] == ONE
        ledger.count(SUMMARY)
        (row,) = await rows(ledger)
        assert row.usage.requests == 2
        await ledger.flush()
        await ledger.flush()
        (row,) = await rows(scene.ledger())
        assert row.usage.requests == 2

    run(main())


def test_what_cannot_be_written_is_kept(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count(SUMMARY)
        scene.store.error = OSError("full")
        await ledger.flush()
        ledger.count(SUMMARY)
        assert (await rows(ledger))[0].usage.requests == 2
        scene.store.error = None
        await ledger.flush()
        assert scene.store.days[DAY][UsageKey("red", "roman", "3")].requests == 2

    run(main())


def test_it_is_written_again_and_again_and_at_the_end(scene: Scene) -> None:
    async def main() -> None:
        ledger = UsageLedger(scene.store, "tiny", 0.01, lambda: scene.now)
        await ledger.start()
        ledger.count(SUMMARY)
        for _ in range(200):
            if scene.store.days:
                break
            await asyncio.sleep(0.01)
        assert scene.store.days[DAY][UsageKey("red", "roman", "3")].requests == 1
        ledger.count(SUMMARY)
        await ledger.close()
        assert scene.store.days[DAY][UsageKey("red", "roman", "3")].requests == 2

    run(main())


def test_a_shutdown_in_the_middle_of_a_write_counts_nothing_twice(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count(SUMMARY)
        task = asyncio.create_task(ledger.flush())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.close()
        assert scene.store.days[DAY][UsageKey("red", "roman", "3")].requests == 1

    run(main())


def test_memory_is_bounded_and_totals_stay_true(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger(max_pending=3)
        for i in range(10):
            for tenant in ("red", "blue"):
                ref = adapter_ref(f"a{i}")
                ledger.count(replace(SUMMARY, principal=Principal(tenant), adapter=ref))
        found = {(row.tenant, row.adapter) for row in await rows(ledger, *Dimension)}
        assert len(found) == 5
        assert {("red", OTHERS), ("blue", OTHERS)} < found
        by_tenant = await rows(ledger, Dimension.TENANT)
        assert [(row.tenant, row.usage.requests) for row in by_tenant] == [
            ("blue", 10),
            ("red", 10),
        ]

    run(main())


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_join(scene: Scene, limit: int) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        for version in (1, 2, 10, 9):
            ledger.count(replace(SUMMARY, adapter=adapter_ref("roman", version)))
        ledger.count(replace(SUMMARY, adapter=None))
        found, after, has_more = [], None, True
        while has_more:
            page = await ledger.report(DAY, DAY, [Dimension.VERSION], None, limit, after)
            found += [row.version for row in page.rows]
            assert page.total.requests == 5
            has_more, after = page.has_more, page.rows[-1].id
        assert found == ["1", "2", "9", "10", ""]

    run(main())


def test_a_report_has_its_tenant_and_days_alone(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count(SUMMARY)
        ledger.count(replace(SUMMARY, principal=Principal("blue")))
        await ledger.flush()
        ledger.count(replace(SUMMARY, principal=Principal("blue")))
        (row,) = await rows(ledger, tenant="blue")
        assert row.usage.requests == 2
        assert (await ledger.report(NEXT, NEXT, (), None, 10)).rows == ()

    run(main())


def test_a_load_whose_requests_have_left_is_no_request(scene: Scene) -> None:
    async def main() -> None:
        ledger = scene.ledger()
        ledger.count_load("red", adapter_ref("roman", 3))
        assert await rows(ledger, *Dimension) == [
            UsageRow(DAY, "red", "roman", "3", Usage(loaded_bytes=1024))
        ]

    run(main())
