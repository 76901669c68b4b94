"""What is advised about pages changes nothing but the pages."""

import ctypes
import mmap
from pathlib import Path

import pytest

from service.model import pages
from service.model.pages import join_pages, keep_pages_small

SIZE = 8 << 20


def huge_kib() -> int:
    """Of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))


@pytest.fixture
def memory() -> tuple[mmap.mmap, int]:
    if pages._huge_page_size() is None:
        pytest.skip("no huge pages here")
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = bytes(range(256)) * (SIZE // 256)
    return memory, address


def test_ranges_beside_each_other_are_joined_and_keep_what_they_hold(
    memory: tuple[mmap.mmap, int],
) -> None:
    held, address = memory
    before = huge_kib()
    third = SIZE // 3
    join_pages([(address + third, address + SIZE), (address, address + third - 100)], 10)
    if huge_kib() == before:
        pytest.skip("this kernel joins no pages when it is asked")
    assert held[:] == bytes(range(256)) * (SIZE // 256)


def test_ranges_with_something_between_them_stay_apart() -> None:
    far = 1 << 30
    assert pages._merged([(far, far + 9), (10, 20), (0, 10), (64, 70)]) == [(0, 70), (far, far + 9)]


def test_the_kernel_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, memory: tuple[mmap.mmap, int]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(pages, "_advise", lambda _, advice: asked.append(advice))
    join_pages([(memory[1], memory[1] + SIZE)], 0)
    assert asked == [pages._MADV_HUGEPAGE]


def test_an_owner_who_wants_none_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pages, "_SETTINGS", tmp_path)
    assert pages._huge_page_size() is None
    (tmp_path / "hpage_pmd_size").write_text("2097152\n")
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    assert pages._huge_page_size() == 2097152
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    assert pages._huge_page_size() is None


def test_memory_whose_pages_stay_small_gets_no_huge_one() -> None:
    if pages._huge_page_size() is None:
        pytest.skip("no huge pages here")
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    before = huge_kib()
    keep_pages_small((address, address + SIZE))
    memory[:] = bytes(SIZE)
    assert huge_kib() <= before
