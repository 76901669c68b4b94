"""Advice to the kernel about the pages of large memory."""

import ctypes
import mmap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from time import monotonic

_MADV_HUGEPAGE, _MADV_NOHUGEPAGE, _MADV_PAGEOUT = 14, 15, 21
_MADV_POPULATE_WRITE, _MADV_COLLAPSE = 23, 25
_SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
_NEAR = 64 << 10
"""Ranges that are no further apart are joined with what the allocator has between them."""

Range = tuple[int, int]
"""First address, and one past the last."""


def release_pages(memory: Range) -> None:
    """Pages of a file are read again when they are wanted, others stay."""
    _advise(_within(memory, mmap.PAGESIZE), _MADV_PAGEOUT)


def provide_pages(memory: Range) -> None:
    """As if all of it were written, which changes nothing in it. Threads that write new pages at
    the same time wait for each other."""
    _advise(_around(memory), _MADV_POPULATE_WRITE)


def keep_pages_small(memory: Range) -> None:
    """For what is written a little at a time, all over: the kernel clears a page before it is
    written for the first time, and whoever writes waits for all of it."""
    _advise(_within(memory, mmap.PAGESIZE), _MADV_NOHUGEPAGE)


def join_pages(ranges: Iterable[Range], seconds: float) -> None:
    """Put what lies there into huge pages, so that reading it is not held up by looking up pages.

    Joining copies. What is not done after `seconds` is left to the kernel, which does it slowly.
    """
    size = _huge_page_size()
    if size is None:
        return
    until = monotonic() + seconds
    whole = [_within(memory, size) for memory in _merged(ranges)]
    for memory in whole:
        _advise(memory, _MADV_HUGEPAGE)
    for start, stop in whole:
        for page in range(start, stop, size):
            if monotonic() >= until:
                return
            _advise((page, page + size), _MADV_COLLAPSE)


def _huge_page_size() -> int | None:
    """None where there are none, or the machine's owner wants none."""
    try:
        if "[never]" in (_SETTINGS / "enabled").read_text():
            return None
        return int((_SETTINGS / "hpage_pmd_size").read_text())
    except OSError:
        return None


def _merged(ranges: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start - merged[-1][1] <= _NEAR:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _within(memory: Range, size: int) -> Range:
    """The whole pages of it."""
    return -(-memory[0] // size) * size, memory[1] // size * size


def _around(memory: Range) -> Range:
    """All pages that it touches."""
    size = mmap.PAGESIZE
    return memory[0] // size * size, -(-memory[1] // size) * size


def _advise(memory: Range, advice: int) -> None:
    """Kernels that do not know it, or have no room, refuse: then all stays as it is."""
    start, stop = memory
    if stop > start:
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), advice)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
