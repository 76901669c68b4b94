"""Parts of a request's work are timed where they are done."""

import asyncio
from contextvars import copy_context

import pytest

from service.core import Phase
from service.phases import collect_phases, phase


def test_work_outside_of_a_request_is_not_timed() -> None:
    with phase("compile"):
        pass


def test_tasks_that_a_request_starts_count_for_it_and_for_no_other() -> None:
    async def request(names: list[str]) -> list[Phase]:
        phases: list[Phase] = []
        collect_phases(phases)

        async def work() -> None:
            for name in names:
                with phase(name):
                    await asyncio.sleep(0.01)

        await asyncio.shield(asyncio.create_task(work()))
        return phases

    async def main() -> list[list[Phase]]:
        return await asyncio.gather(
            asyncio.create_task(request(["receive", "commit"])),
            asyncio.create_task(request(["verify"])),
        )

    upload, verify = asyncio.run(main())
    assert [one.name for one in upload] == ["receive", "commit"]
    assert [one.name for one in verify] == ["verify"]
    assert all(one.seconds >= 0.01 for one in (*upload, *verify))
    assert upload[0].end <= upload[1].start


def test_what_failed_took_its_time_too() -> None:
    def work() -> list[Phase]:
        phases: list[Phase] = []
        collect_phases(phases)
        with pytest.raises(ValueError, match="refused"), phase("compile"):
            raise ValueError("refused")
        return phases

    assert [one.name for one in copy_context().run(work)] == ["compile"]
