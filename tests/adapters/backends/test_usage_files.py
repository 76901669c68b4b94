"""Usage on disk: sums that survive a kill at any moment, as they were or as they should be."""

import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from service.adapters.backends.usage import Usage, UsageKey
from service.adapters.backends.usage_files import UsageFiles
from service.adapters.failpoints import FAILPOINTS, VARIABLE
from service.errors import ConfigurationError

DAY = date(2026, 3, 5)
KEY = UsageKey("red", "red/roman", "3")
ONE = Usage(1, 0, 10, 4, 20, 1024)

CHILD = """
import sys
from datetime import date
from pathlib import Path
from service.adapters.backends.usage import Usage, UsageKey
from service.adapters.backends.usage_files import UsageFiles
from service.tenancy import OTHERS
root = Path(sys.argv[1])
key, one = UsageKey("red", "red/roman", "3"), Usage(1, 0, 10, 4, 20, 1024)
UsageFiles(root / "usage", root).add(date(2026, 3, 5), {key: one})
"""


@pytest.fixture
def files(tmp_path: Path) -> UsageFiles:
    return UsageFiles(tmp_path / "usage", tmp_path)


def test_what_is_added_adds_up(files: UsageFiles, tmp_path: Path) -> None:
    assert files.read(DAY) == {}
    files.add(DAY, {KEY: ONE})
    files.add(DAY, {KEY: ONE, UsageKey("red", "tiny", ""): ONE})
    again = UsageFiles(tmp_path / "usage", tmp_path)
    assert again.read(DAY) == {KEY: ONE + ONE, UsageKey("red", "tiny", ""): ONE}
    assert again.read(date(2026, 3, 6)) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["usage"]


def test_replicas_add_beside_each_other(files: UsageFiles, tmp_path: Path) -> None:
    files.add(DAY, {KEY: ONE})
    for replica in ("a", "b", "a"):
        UsageFiles(tmp_path / "usage", tmp_path, replica=replica).add(DAY, {KEY: ONE})
    assert files.read(DAY) == {KEY: ONE + ONE + ONE + ONE}
    names = sorted(path.name for path in (tmp_path / "usage").iterdir())
    assert names == ["2026-03-05.a.json", "2026-03-05.b.json", "2026-03-05.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [["red"]]}', '{"rows": [[1,2,3,"x"]]}'])
def test_damage_is_named(files: UsageFiles, tmp_path: Path, text: str) -> None:
    files.add(DAY, {KEY: ONE})
    (tmp_path / "usage" / "2026-03-05.json").write_text(text)
    with pytest.raises(ConfigurationError, match="usage of 2026-03-05"):
        files.add(DAY, {KEY: ONE})


@pytest.mark.parametrize("point", [one for one in FAILPOINTS if one.startswith("usage")])
def test_killed_at_every_fail_point(files: UsageFiles, tmp_path: Path, point: str) -> None:
    files.add(DAY, {KEY: ONE})
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, env={VARIABLE: point}, check=False)
    assert done.returncode == -signal.SIGKILL, f"{point} is not visited"
    is_new = FAILPOINTS.index(point) >= FAILPOINTS.index("usage.after_rename")
    assert files.read(DAY) == {KEY: ONE + ONE if is_new else ONE}
    files.add(DAY, {KEY: ONE})
