"""Killed anywhere, the store comes back with the old state or the new, and with nothing else."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.failpoints import FAILPOINTS
from service.adapters.files import CHAT_TEMPLATE, VERSION_FILES
from service.adapters.shares import Shares
from service.core import AdapterRef
from service.handlers.adapter_views import AdapterView
from service.tenancy import ANYONE
from tests.adapters.house import House
from tests.crash.scenario import MOVE, STEPS, Kit, make_house

REPOSITORY = Path(__file__).parents[2]
Versions = dict[int, int]
"""The seed of each version."""
State = dict[str, tuple[int | None, Versions, dict[str, Shares], Versions]]
"""By name: current version, versions, aliases, and the versions that can be restored."""

SHIPPED: State = {"shipped": (1, {1: 3}, {}, {})}
BOTH = {1: 1, 2: 2}
MOVED = dict(MOVE.aliases)
A_LIVES: State = {**SHIPPED, "a": (1, BOTH, MOVED, {})}
A_IS_DELETED: State = {**SHIPPED, "a": (None, {}, {}, BOTH)}
AFTER: dict[str, State] = {
    "start": SHIPPED,
    "first": {**SHIPPED, "a": (1, {1: 1}, {}, {})},
    "second": {**SHIPPED, "a": (2, BOTH, {}, {})},
    "back": {**SHIPPED, "a": (1, BOTH, {}, {})},
    "move": {**SHIPPED, "a": (2, BOTH, MOVED, {})},
    "rollback": A_LIVES,
    "other": {**A_LIVES, "b": (1, {1: 1}, {}, {})},
    "delete": {**A_IS_DELETED, "b": (1, {1: 1}, {}, {})},
    "restore": {**A_LIVES, "b": (1, {1: 1}, {}, {})},
    "next": {**A_LIVES, "b": (2, BOTH, {}, {})},
    "drop": {**A_LIVES, "b": (2, {2: 2}, {}, {1: 1})},
    "undrop": {**A_LIVES, "b": (2, BOTH, {}, {})},
    "delete_again": {**A_IS_DELETED, "b": (2, BOTH, {}, {})},
    "drop_again": {**A_IS_DELETED, "b": (2, {2: 2}, {}, {1: 1})},
    "collect": {**SHIPPED, "b": (2, {2: 2}, {}, {})},
    "again": {**SHIPPED, "b": (2, {2: 2}, {}, {}), "a": (3, {3: 2}, {}, {})},
}
RECORDED = (
    "back", "move", "rollback", "delete", "restore", "drop", "undrop", "drop_again", "collect",
)  # fmt: skip


def cases() -> Iterator[tuple[str, str]]:
    """Every fail point in a step that visits it, but for those of usage, which has tests of its
    own; before and after its record in every kind."""
    steps = {"folders": "start", "remove": "collect"}
    for point in (point for point in FAILPOINTS if not point.startswith("usage")):
        yield steps.get(point.partition(".")[0], "second"), point
    for step in RECORDED:
        yield step, "journal.before_rename"
        yield step, "journal.after_rename"


@pytest.mark.parametrize(("step", "point"), list(cases()))
def test_killed_at_every_fail_point(
    root: Path, kit: Kit, tmp_path: Path, step: str, point: str
) -> None:
    log = tmp_path / "log"
    process = start(root, kit, log, step, point)
    assert process.wait() == -signal.SIGKILL, f"{point} is not visited in {step}"
    assert finished(log) == STEPS[: STEPS.index(step)]
    check(root, kit, log, is_prepared=True)


@pytest.mark.parametrize("number", range(20))
def test_killed_at_a_random_time(root: Path, kit: Kit, tmp_path: Path, number: int) -> None:
    kill_and_check(root, kit, tmp_path / "log", random.Random(number).uniform(0.2, 2.6))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_many_random_times(kit: Kit, tmp_path: Path) -> None:
    for number in range(int(os.environ.get("CRASH_KILLS", "1000"))):
        root = tmp_path / str(number)
        shutil.copytree(kit.adapter(3), root / "shipped")
        seconds = random.Random(f"long {number}").uniform(0.1, 3.0)
        kill_and_check(root, kit, tmp_path / f"log{number}", seconds)
        shutil.rmtree(root)


def kill_and_check(root: Path, kit: Kit, log: Path, seconds: float) -> None:
    process = start(root, kit, log)
    time.sleep(seconds)
    process.kill()
    process.wait()
    check(root, kit, log, is_prepared=False)


def start(root: Path, kit: Kit, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.crash.scenario", str(root), str(kit.folder), str(log)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*command, *arguments], cwd=REPOSITORY, env=environment)


def finished(log: Path) -> tuple[str, ...]:
    return tuple(log.read_text().split()) if log.exists() else ()


def check(root: Path, kit: Kit, log: Path, *, is_prepared: bool) -> None:
    """Start again, twice: the first start repairs, the second finds nothing to repair."""
    steps = finished(log)
    old = AFTER[steps[-1]] if steps else SHIPPED
    new = AFTER[STEPS[len(steps)]] if len(steps) < len(STEPS) else old
    states = []
    for _ in range(2):
        house = make_house(root, kit, is_prepared=is_prepared)
        asyncio.run(inspect(house, kit, states))
    # A step that changes several names changes one after the other, each as a whole.
    for name in old.keys() | new.keys() | states[0].keys():
        assert states[0].get(name) in (old.get(name), new.get(name))
    assert states[0] == states[1]


async def inspect(house: House, kit: Kit, states: list[State]) -> None:
    await house.service.start()
    seeds = {kit.manifest(seed).digest: seed for seed in (1, 2, 3)}
    visible = house.service.visible
    pages = (visible.list, visible.list_deleted)
    views = [view for page in pages for view in page(ANYONE, None, 100, None)[0]]
    assert not any(view.state == "errored" or view.reasons for view in views)
    states.append({view.name: state_of(view, seeds) for view in views})
    referenced = {one.digest for view in views for one in (*view.versions, *view.deleted)}
    for digest in referenced:
        text = (CHAT_TEMPLATE,) if kit.manifest(seeds[digest]).has_chat_template else ()
        for name in (*VERSION_FILES, *text):
            stored = house.store.object_folder(digest) / name
            assert stored.read_bytes() == (kit.adapter(seeds[digest]) / name).read_bytes()
        expected = kit.compiled(seeds[digest]).read_bytes()
        with house.cache.open(AdapterRef("x", 1, digest, 0)) as file:
            assert file.read(len(expected)) == expected
    assert_nothing_left(house, referenced)
    await house.service.close()
    assert sorted(path.name for path in (house.root / "shipped").iterdir()) == sorted(
        path.name for path in kit.adapter(3).iterdir()
    )


def state_of(view: AdapterView, seeds: dict[str, int]):
    return (
        view.current and view.current.number,
        {version.number: seeds[version.digest] for version in view.versions},
        {} if view.state == "deleted" else dict(view.aliases),
        {version.number: seeds[version.digest] for version in view.deleted},
    )


def assert_nothing_left(house: House, referenced: set[str]) -> None:
    private = house.root / ".repertoire"
    names = {path.name for path in private.iterdir()}
    folders = {"tmp", "journal", "audit", "objects", "removed", "cache"}
    assert names <= folders | {"lock", "folders.json"}
    assert list((private / "removed").iterdir()) == []
    assert list((private / "tmp").iterdir()) == []
    drafts = (private / "cache" / "tmp").glob("*/*")
    assert [path for path in drafts if path.name != "lock"] == []
    assert {path.name for path in (private / "objects").iterdir()} == referenced
    for folder in (private / "journal").iterdir():
        records = sorted(path.name for path in folder.iterdir())
        assert records == [f"{number:010d}.json" for number in range(len(records))]
