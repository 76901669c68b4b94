"""The audit log: what was acknowledged is in it, in order, for those it concerns."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from service.adapters.backends.record_files import RecordFiles
from service.errors import InvalidRequest
from service.handlers.audit import Action, Actor, AuditLog, act_for, who_acts
from service.tenancy import ANYONE, Principal, Role

DAY = date(2026, 3, 5)
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def files(tmp_path: Path) -> RecordFiles:
    for name in ("logs", "tmp"):
        (tmp_path / name).mkdir()
    return RecordFiles(tmp_path / "logs", tmp_path / "tmp")


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        self.now += 1
        return self.now


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def targets(
    log: AuditLog, tenant: str | None = None, first: date = DAY, last: date = DAY
) -> list[str]:
    page = await log.page(first, last, 1000, None, tenant)
    return [entry.target for _, entry in page.entries]


def test_an_entry_says_who_when_what_and_what_changed(files: RecordFiles) -> None:
    async def main() -> None:
        log = AuditLog(files, Clock())
        act_for(Actor.of(Principal("red", Role.PUBLISH, "k1"), "req-1"))
        await log.record(Action.ADAPTER_MOVE, "red", "roman", {"current": 1}, {"current": 2})
        page = await AuditLog(files).page(DAY, DAY, 10, None, None)
        ((_, entry),) = page.entries
        assert entry.at == NOON + 1
        assert entry.actor == Actor("red", "k1", "req-1")
        assert (entry.action, entry.tenant, entry.target) == ("adapter.move", "red", "roman")
        assert (entry.before, entry.after) == ({"current": 1}, {"current": 2})

    run(main())


def test_somebody_without_a_key_is_anonymous_and_the_server_acts_for_itself() -> None:
    assert Actor.of(ANYONE, "r").key_id == "anonymous"
    assert who_acts().key_id == "server"


def test_concurrent_writers_lose_nothing_and_order_is_kept(files: RecordFiles) -> None:
    async def main() -> None:
        one, other = AuditLog(files, Clock()), AuditLog(files, Clock())
        for i in range(3):
            await one.record(Action.ADAPTER_DELETE, "red", f"one-{i}")
            await other.record(Action.ADAPTER_DELETE, "red", f"other-{i}")
        await asyncio.gather(
            *(log.record(Action.ADAPTER_DELETE, "red", "late") for log in (one, other) * 5)
        )
        found = await targets(one)
        assert found[:6] == ["one-0", "other-0", "one-1", "other-1", "one-2", "other-2"]
        assert found[6:] == ["late"] * 10

    run(main())


def test_a_tenant_reads_what_concerns_it_whoever_did_it(files: RecordFiles) -> None:
    async def main() -> None:
        log = AuditLog(files, Clock())
        await log.record(Action.ADAPTER_PUBLISH, "red", "mine")
        await log.record(Action.ADAPTER_PUBLISH, "blue", "theirs")
        act_for(Actor.of(ANYONE, ""))
        await log.record(Action.KEY_REVOKE, "red", "k1")
        assert await targets(log, "red") == ["mine", "k1"]
        assert await targets(log, "blue") == ["theirs"]
        assert await targets(log) == ["mine", "theirs", "k1"]
        page = await log.page(DAY, DAY, 10, None, "red")
        cursors = [cursor for cursor, _ in page.entries]
        assert cursors == ["2026-03-05.1", "2026-03-05.2"], "how busy others are is not told"

    run(main())


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_join_without_gap_or_double_over_days(files: RecordFiles, limit: int) -> None:
    async def main() -> None:
        clock = Clock()
        log = AuditLog(files, clock)
        for i in range(9):
            if i in (3, 7):
                clock.now += 86400
            await log.record(Action.ADAPTER_PUBLISH, "red" if i % 2 else "blue", str(i))
        for tenant, expected in ((None, "012345678"), ("red", "1357")):
            found, after, has_more = "", None, True
            while has_more:
                page = await log.page(DAY, date(2026, 3, 8), limit, after, tenant)
                assert len(page.entries) <= limit
                found += "".join(entry.target for _, entry in page.entries)
                after, has_more = page.entries[-1][0], page.has_more
            assert found == expected
        assert await targets(log, first=date(2026, 3, 6), last=date(2026, 3, 6)) == list("3456")

    run(main())


@pytest.mark.parametrize("cursor", ["x", "2026-03-05", "2026-03-05.-1", "../../etc.1", "9.9.9"])
def test_a_cursor_that_is_none_is_refused(files: RecordFiles, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(AuditLog(files).page(DAY, DAY, 10, cursor, None))
    assert caught.value.param == "after"
