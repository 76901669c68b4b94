"""What makes logs of files logs: order without a lock, and all of a record or nothing."""

import errno
from pathlib import Path

import pytest

from service.adapters import durable
from service.adapters.backends.record_files import RecordFiles
from service.errors import ConfigurationError, StoreFull


@pytest.fixture
def files(tmp_path: Path) -> RecordFiles:
    (tmp_path / "tmp").mkdir()
    return RecordFiles(tmp_path / "logs", tmp_path / "tmp")


def test_what_was_appended_is_read_in_its_order(files: RecordFiles, tmp_path: Path) -> None:
    for number in range(12):
        files.append("keys/a", number, {"n": number})
    files.append("journal/@team/x", 0, {"n": "ä"})
    again = RecordFiles(tmp_path / "logs", tmp_path / "tmp")
    assert [record["n"] for record in again.read("keys/a")] == list(range(12))
    assert again.read("keys/a", 11) == [{"n": 11}]
    assert again.read("keys/b") == []
    assert (again.names("keys"), again.names("journal")) == (["a"], ["@team/x"])


def test_the_first_writer_of_a_number_has_it(files: RecordFiles) -> None:
    files.append("keys/a", 0, {"n": 0})
    with pytest.raises(FileExistsError):
        files.append("keys/a", 0, {"n": 1})
    assert files.read("keys/a") == [{"n": 0}]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_full_store(
    files: RecordFiles, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, "no room")

    monkeypatch.setattr(durable, "write_file", fail)
    with pytest.raises(StoreFull):
        files.append("keys/a", 0, {})
    assert files.read("keys/a") == []


def test_a_gap_is_damage(files: RecordFiles, tmp_path: Path) -> None:
    for number in range(3):
        files.append("keys/a", number, {})
    (tmp_path / "logs/keys/a/0000000001.json").unlink()
    with pytest.raises(ConfigurationError, match="gap"):
        files.read("keys/a")
