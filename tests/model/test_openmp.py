"""Who has helpers for parallel regions, counted as the kernel counts threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from service.model.openmp import compute_alone, openmp_runtime, release_helpers
from tests.model.native.library import native_of
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    openmp_runtime() is None or torch.get_num_threads() < 2, reason="nobody has helpers here"
)


def num_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def compute() -> None:
    torch.ones(1 << 20).add_(1)


def in_a_thread_of_its_own(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work).result()


def test_helpers_are_released_and_come_back() -> None:
    def work() -> None:
        before = num_threads()
        compute()
        assert num_threads() > before
        release_helpers()
        until(lambda: num_threads() == before)
        compute()
        assert num_threads() > before

    in_a_thread_of_its_own(work)


def test_a_thread_that_computes_alone_has_none() -> None:
    def work() -> None:
        compute_alone()
        before = num_threads()
        compute()
        assert num_threads() == before

    in_a_thread_of_its_own(work)


def test_the_kernels_bring_no_runtime_of_their_own() -> None:
    native_of(torch.float32)
    maps = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split(maxsplit=5)[5] for line in maps if "omp" in line.rpartition("/")[2]}
    assert len(names) == 1
