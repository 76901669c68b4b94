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
from tests.adapters.house import House
from tests.crash.scenario import MOVE, STEPS, Kit, make_house

REPOSITORY = Path(__file__).parents[2]
State = dict[str, tuple[int, dict[int, int], dict[str, Shares]]]
"""By name: current version, the seed of each version, and the aliases."""

SHIPPED: State = {"shipped": (1, {1: 3}, {})}
BOTH = {1: 1, 2: 2}
MOVED = dict(MOVE.aliases)
AFTER: dict[str, State] = {
    "start": SHIPPED,
    "first": {**SHIPPED, "a": (1, {1: 1}, {})},
    "second": {**SHIPPED, "a": (2, BOTH, {})},
    "back": {**SHIPPED, "a": (1, BOTH, {})},
    "move": {**SHIPPED, "a": (2, BOTH, MOVED)},
    "rollback": {**SHIPPED, "a": (1, BOTH, MOVED)},
    "other": {**SHIPPED, "a": (1, BOTH, MOVED), "b": (1, {1: 1}, {})},
    "delete": {**SHIPPED, "b": (1, {1: 1}, {})},
    "again": {**SHIPPED, "b": (1, {1: 1}, {}), "a": (3, {3: 2}, {})},
}
JOURNALED = ["second", "back", "move", "rollback", "delete"]


def cases() -> Iterator[tuple[str, str]]:
    """Every fail point in the step that visits it; the journal's in every kind of step."""
    steps = {"folders": ["start"], "remove": ["delete"], "journal": JOURNALED}
    for point in FAILPOINTS:
        for step in steps.get(point.partition(".")[0], ["second"]):
            yield step, point


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
def test_killed_at_a_thousand_random_times(kit: Kit, tmp_path: Path) -> None:

    for number in range(1000):
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
    assert states[0] in (old, new)
    assert states[0] == states[1]


async def inspect(house: House, kit: Kit, states: list[State]) -> None:
    await house.service.start()
    seeds = {kit.manifest(seed).digest: seed for seed in (1, 2, 3)}
    views, _ = house.service.list(100, None)
    assert all(view.state == "ready" and not view.reasons for view in views)
    states.append(
        {
            view.name: (
                view.current.number,
                {v.number: seeds[v.digest] for v in view.versions},
                dict(view.aliases),
            )
            for view in views
        }
    )
    referenced = {version.digest for view in views for version in view.versions}
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


def assert_nothing_left(house: House, referenced: set[str]) -> None:
    private = house.root / ".repertoire"
    names = {path.name for path in private.iterdir()}
    assert names <= {"tmp", "journal", "audit", "objects", "cache", "lock", "folders.json"}
    assert list((private / "tmp").iterdir()) == []
    drafts = (private / "cache" / "tmp").glob("*/*")
    assert [path for path in drafts if path.name != "lock"] == []
    assert {path.name for path in (private / "objects").iterdir()} == referenced
    for folder in (private / "journal").iterdir():
        records = sorted(path.name for path in folder.iterdir())
        assert records == [f"{number:010d}.json" for number in range(len(records))]
