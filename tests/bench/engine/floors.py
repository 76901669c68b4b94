"""What this machine can do at best: bytes read and numbers multiplied in a second."""

from collections.abc import Callable
from time import perf_counter

import torch
from torch.nn import functional

_BUFFER_BYTES = 1 << 30
"""Far more than any cache holds."""
_REPEATS = 5
_ROWS = 512
"""Of a step that computes prompts alone."""


def read_bytes_per_s() -> float:
    """With all compute threads, over memory that no cache holds."""
    buffer = torch.ones(_BUFFER_BYTES // 4)
    readers: tuple[Callable[[], object], ...] = (
        buffer.sum,
        buffer.max,
        lambda: torch.dot(buffer, buffer),
    )
    return _BUFFER_BYTES / min(_best_seconds(reader) for reader in readers)


def multiply_flop_per_s(hidden: int, inner: int, dtype: str) -> float:
    """Of the largest linear module of a layer, in the dtype that the server runs in."""
    number = getattr(torch, dtype)
    rows, weight = torch.randn(_ROWS, hidden).to(number), torch.randn(inner, hidden).to(number)
    seconds = _best_seconds(lambda: functional.linear(rows, weight))
    return 2 * _ROWS * hidden * inner / seconds


def _best_seconds(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(_REPEATS):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return min(seconds)
