from pathlib import Path

import pytest

from service.model.cgroup import free_memory, processors


def write_group(folder: Path, limit: str, used: int, *, files: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    stat = f"anon {used - files}\nactive_file {files // 4}\ninactive_file {files - files // 4}\n"
    (folder / "memory.stat").write_text(stat)


def free_at(root: Path, path: str = "/") -> int | None:
    own = root / "own"
    own.write_text(f"0::{path}\n")
    return free_memory(root, own)


def test_a_containers_limit_less_what_it_cannot_give_back(tmp_path: Path) -> None:
    write_group(tmp_path, "1000", 700, files=400)
    assert free_at(tmp_path) == 700


def test_the_tightest_of_the_groups_around_holds(tmp_path: Path) -> None:
    write_group(tmp_path / "outer", "500", 400)
    write_group(tmp_path / "outer/inner", "max", 50)
    assert free_at(tmp_path, "/outer/inner") == 100
    write_group(tmp_path / "outer/inner", "90", 50)
    assert free_at(tmp_path, "/outer/inner") == 40


def test_nothing_is_free_over_the_limit(tmp_path: Path) -> None:
    write_group(tmp_path, "100", 120)
    assert free_at(tmp_path) == 0


@pytest.mark.parametrize("own", ["", "1:memory:/old\n", "0::/somewhere/else\n"])
def test_without_a_limit_the_machine_is_what_counts(tmp_path: Path, own: str) -> None:
    (tmp_path / "own").write_text(own)
    assert free_memory(tmp_path, tmp_path / "own") is None
    assert free_memory(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("outer", "inner", "found"),
    [("max", "max", None), ("max", "250000", 2), ("150000", "400000", 1), ("20000", "max", 1)],
)
def test_the_processors_of_the_tightest_group(
    tmp_path: Path, outer: str, inner: str, found: int | None
) -> None:
    for folder, quota in ((tmp_path / "outer", outer), (tmp_path / "outer/inner", inner)):
        folder.mkdir()
        (folder / "cpu.max").write_text(f"{quota} 100000\n")
    (tmp_path / "own").write_text("0::/outer/inner\n")
    assert processors(tmp_path, tmp_path / "own") == found
    assert processors(tmp_path / "missing", tmp_path / "own") is None
