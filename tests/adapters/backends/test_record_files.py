"""Logs of files: a full disk is a full store. What all logs are is in `test_record_logs.py`."""

import errno
from pathlib import Path

import pytest

from service.adapters import durable
from service.adapters.backends.record_files import RecordFiles
from service.errors import StoreFull


@pytest.fixture
def files(tmp_path: Path) -> RecordFiles:
    for name in ("logs", "tmp"):
        (tmp_path / name).mkdir()
    return RecordFiles(tmp_path / "logs", tmp_path / "tmp")


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
