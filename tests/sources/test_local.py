"""Paths of the server: what lies below the root, by whatever way, and nothing else."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.errors import SourceFailed, SourceNotFound, SourceRefused
from service.sources import local
from service.sources.address import parse_address
from service.sources.local import LocalSource
from tests.sources.conftest import MemoryTarget

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\0" * 3000}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in (root / "team" / "a", tmp_path / "outside"):
        folder.mkdir(parents=True)
        for name, body in (FILES | {"README.md": b"#"}).items():
            (folder / name).write_bytes(body)
    (root / "a.zip").write_bytes(b"packed")
    return root


def fetch(text: str, root: Path | None, target: MemoryTarget) -> str:
    address: Any = parse_address(text)
    return asyncio.run(LocalSource(address, root).fetch(target))


@pytest.mark.parametrize("text", ["team/a", "./team/../team/a/", "{}/team/a"])
def test_a_folder_below_the_root(text: str, root: Path, target: MemoryTarget) -> None:
    fetch(text.format(root), root, target)
    assert target.files == FILES


def test_an_archive_below_the_root(root: Path, target: MemoryTarget) -> None:
    fetch("a.zip", root, target)
    assert target.files == {None: b"packed"}


def test_links_within_the_root_are_followed(root: Path, target: MemoryTarget) -> None:
    (root / "link").symlink_to(root / "team" / "a")
    fetch("link", root, target)
    assert target.files == FILES


@pytest.mark.parametrize(
    "text", ["../outside", "{}/../outside", "/etc/passwd", "/nothing", "team/../..", "out", "in/a"]
)
def test_nothing_outside_the_root(text: str, root: Path, target: MemoryTarget) -> None:
    (root / "out").symlink_to(root.parent / "outside")
    (root / "in").symlink_to(root.parent)
    with pytest.raises(SourceRefused, match="outside the root"):
        fetch(text.format(root), root, target)
    assert target.files == {}


def test_without_a_root_nothing_is_a_source(target: MemoryTarget) -> None:
    with pytest.raises(SourceRefused, match="--source-root"):
        fetch("a", None, target)


def test_a_file_in_the_folder_may_not_lead_elsewhere(root: Path, target: MemoryTarget) -> None:
    weights = root / "team" / "a" / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    with pytest.raises(SourceFailed):
        fetch("team/a", root, target)
    assert not target.files["adapter_config.json"].startswith(b"root")


def test_a_folder_for_a_file_stays_open_no_longer_than_it_is_looked_at(
    root: Path, target: MemoryTarget
) -> None:
    weights = root / "team" / "a" / "adapter_model.safetensors"
    weights.unlink()
    weights.mkdir()
    with pytest.raises(SourceFailed, match="regular file"):
        fetch("team/a", root, target)
    opened = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
    assert str(weights) not in opened


def test_a_folder_that_becomes_a_link_after_it_was_looked_at(
    root: Path, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = LocalSource._look

    def look_then_swap(source: LocalSource) -> Any:
        found = look(source)
        shutil.rmtree(root / "team")
        (root / "team").symlink_to(root.parent / "outside" / "..")
        shutil.copytree(root.parent / "outside", root.parent / "a")
        return found

    monkeypatch.setattr(local.LocalSource, "_look", look_then_swap)
    with pytest.raises(SourceFailed):
        fetch("team/a", root, target)
    assert target.files == {}


def test_what_is_no_regular_file(root: Path, target: MemoryTarget) -> None:
    """To open a pipe would wait for somebody who writes."""
    weights = root / "team" / "a" / "adapter_model.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(SourceFailed, match="regular"):
        fetch("team/a", root, target)


def test_what_is_not_there(root: Path, target: MemoryTarget) -> None:
    with pytest.raises(SourceNotFound):
        fetch("team/b", root, target)
    with pytest.raises(SourceNotFound, match=r"adapter_config\.json"):
        fetch("team", root, target)
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises((SourceNotFound, SourceFailed)):
        fetch("circle", root, target)
