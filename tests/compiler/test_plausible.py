"""A child that was taken over cannot make the server move or serve files of its choice."""

from pathlib import Path

import pytest

from service.adapters.files import VERSION_FILES
from service.compiler.job import Result
from service.compiler.launcher import _is_plausible

SOURCE, WORK = Path("/s"), Path("/w")
HONEST = {"folder": "/s", "files": VERSION_FILES, "compiled": "/w/compiled"}


def test_an_honest_answer() -> None:
    assert _is_plausible(Result(**HONEST), SOURCE, WORK)
    assert _is_plausible(Result(**{**HONEST, "folder": "/w/unpacked"}), SOURCE, WORK)


@pytest.mark.parametrize(
    "lie",
    [
        {"folder": "/etc"},
        {"folder": "/s/../etc"},
        {"compiled": "/etc/passwd"},
        {"files": ("../passwd",)},
        {"files": (*VERSION_FILES, "x")},
    ],
)
def test_a_lie(lie: dict[str, object]) -> None:
    assert not _is_plausible(Result(**{**HONEST, **lie}), SOURCE, WORK)
