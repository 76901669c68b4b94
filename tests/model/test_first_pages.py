"""Keys and values find memory where they are written first."""

import mmap
import os
import sys
import threading
from pathlib import Path

import pytest
import torch

from service.model.first_pages import provide_first_pages
from service.model.kv_store import KVStore, LayerShape

SHAPES = {0: LayerShape(2, 64, 32), 3: LayerShape(4, 64, 64)}
BLOCK_BYTES = 16 * 2 * (2 * 96 + 4 * 128)


def make_store(num_blocks: int, device: str = "cpu") -> KVStore:
    return KVStore(SHAPES, num_blocks, 16, torch.bfloat16, torch.device(device))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def provided(store: KVStore, num_bytes: int) -> int:
    return sum(stop - start for start, stop in store.first_memory(num_bytes))


def test_it_is_as_much_as_was_asked_for_and_no_more_than_there_is() -> None:
    store = make_store(100)
    assert provided(store, 40 * BLOCK_BYTES) == 40 * BLOCK_BYTES
    assert provided(store, 1 << 40) == 100 * BLOCK_BYTES


def test_the_first_blocks_come_first_in_all_layers() -> None:
    store = make_store(100)
    begins = {
        start
        for layer in SHAPES
        for start in (store.layer(layer).keys.data_ptr(), store.layer(layer).values.data_ptr())
    }
    ranges = list(store.first_memory(100 * BLOCK_BYTES))
    assert {start for start, _ in ranges[: len(begins)]} == begins
    stops = dict(zip(begins, begins, strict=True))
    for start, stop in ranges:
        (before,) = (one for one, end in stops.items() if end == start)
        stops[before] = stop


def test_what_lies_on_a_device_is_left_alone() -> None:
    assert list(make_store(10, "meta").first_memory(1 << 30)) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_memory_is_there_and_what_is_in_it_stays() -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 14):
        pytest.skip("this kernel provides no pages when it is asked")
    store = make_store(3000)
    rows = torch.tensor([5, 700])
    keys, values = torch.randn(2, 4, 64).bfloat16(), torch.randn(2, 4, 64).bfloat16()
    store.write(3, rows, keys, values)
    before = resident_bytes()
    provide_first_pages(store)
    for thread in threading.enumerate():
        if thread.name == "first-pages":
            thread.join(60)
    assert resident_bytes() - before > 0.9 * 3000 * BLOCK_BYTES
    assert torch.equal(store.layer(3).keys[rows], keys)
    assert torch.equal(store.layer(3).values[rows], values)
