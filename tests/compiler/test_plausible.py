"""A child that was taken over cannot make the server move or serve files of its choice."""

from pathlib import Path

import pytest

from service.adapters.files import TEXT_FILES, VERSION_FILES
from service.compiler.job import Result
from service.compiler.launcher import _is_plausible

SOURCE, WORK = Path("/s"), Path("/w")
HONEST = {"folder": "/s", "files": VERSION_FILES, "compiled": "/w/compiled"}


def test_an_honest_answer() -> None:
    assert _is_plausible(Result(**HONEST), SOURCE, WORK)
    assert _is_plausible(Result(**{**HONEST, "folder": "/w/unpacked"}), SOURCE, WORK)
    assert _is_plausible(Result(**HONEST, text_files=TEXT_FILES), SOURCE, WORK)


@pytest.mark.parametrize(
    "lie",
    [
        {"folder": "/etc"},
        {"folder": "/s/../etc"},
        {"compiled": "/etc/passwd"},
        {"files": ("../passwd",)},
        {"files": (*VERSION_FILES, "x")},
        {"text_files": ("record.json",)},
        {"text_files": ("../adapter_config.json",)},
        {"text_files": ("chat_template.jinja", "chat_template.jinja")},
    ],
)
def test_a_lie(lie: dict[str, object]) -> None:
    assert not _is_plausible(Result(**{**HONEST, **lie}), SOURCE, WORK)


def test_a_link_in_place_of_a_text_file_is_a_lie(tmp_path: Path) -> None:
    result = Result(
        folder=str(tmp_path / "s"),
        files=VERSION_FILES,
        compiled=str(tmp_path / "compiled"),
        text_files=("chat_template.jinja",),
    )
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "chat_template.jinja").write_text("x")
    (tmp_path / "text").symlink_to(secret)
    assert not _is_plausible(result, tmp_path / "s", tmp_path)
    (tmp_path / "text").unlink()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "chat_template.jinja").symlink_to(secret / "chat_template.jinja")
    assert not _is_plausible(result, tmp_path / "s", tmp_path)
