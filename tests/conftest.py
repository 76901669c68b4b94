"""What holds for every test: the machine's speed and the caller's environment decide nothing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.s3_server import S3Server

if not Path("/proc/driver/nvidia").exists():
    # Read when Triton is imported, which torch may do at any time.
    os.environ["TRITON_INTERPRET"] = "1"

# Read when torch is imported: compute threads of processes side by side do not wait by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile("repertoire", deadline=None)
settings.load_profile("repertoire")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REPERTOIRE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3() -> "Iterator[S3Server]":
    """One for all tests; each has a bucket of its own."""
    from tests.s3_server import S3Server

    with S3Server() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one folder run in one process: they share what is dear to make."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(pytest.mark.xdist_group(folder))
