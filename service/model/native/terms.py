"""The native form of the operator's row-wise terms, for the short runs of a decode step.

`terms.h` has the arithmetic, `operator/terms.py` is its twin.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch

from service.operator.terms import Terms

MAX_RUN_ROWS = 32
"""From about here on a matrix product of torch's own is faster."""
NATIVE_TERMS = frozenset({"a", "b", "c", "d"})

_ENTRY = np.dtype([("a", "u8"), ("b", "u8"), ("c", "u8"), ("d", "u8"), ("rank", "i8")])
_FUNCTIONS = {torch.float32: "apply_terms_float32", torch.bfloat16: "apply_terms_bfloat16"}


class RunTable:
    """Runs of a step in the kernel's layout; made once and read at every site."""

    def __init__(self, runs: Sequence[tuple[int, int, int]]) -> None:
        """(slot, first row, one past the last row) of each."""
        self._array = np.array(runs, dtype=np.int32).reshape(len(runs), 3)
        self.address = int(self._array.ctypes.data)
        self.num_runs = len(runs)
        self.num_rows = int((self._array[:, 2] - self._array[:, 1]).sum())


class TermTable:
    """Where each slot's terms lie, for one site. The tensors are kept alive by the site's forms."""

    def __init__(self) -> None:
        self._entries = np.zeros(8, dtype=_ENTRY)
        self.address = int(self._entries.ctypes.data)
        self.max_rank = 0

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, slot: int, terms: Terms) -> None:
        while slot >= len(self._entries):
            self._entries = np.concatenate([self._entries, np.zeros_like(self._entries)])
            self.address = int(self._entries.ctypes.data)
        rank = 0 if terms.a is None else len(terms.a)
        addresses = (_address(terms.a), _address(terms.b), _address(terms.c), _address(terms.d))
        self._entries[slot] = (*addresses, rank)
        self.max_rank = max(self.max_rank, rank)

    def clear(self, slot: int) -> None:
        if slot < len(self._entries):
            self._entries[slot] = 0


class NativeTerms:
    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._apply = getattr(library, _FUNCTIONS[dtype])
        size = ctypes.c_int64
        pointer = ctypes.c_void_p
        self._apply.argtypes = [
            pointer, size, pointer, size, pointer, pointer, size, size, pointer, ctypes.c_int,
        ]  # fmt: skip
        self._apply.restype = None
        self._num_threads = torch.get_num_threads()
        self._hidden = torch.empty(0, dtype=torch.float32)

    def takes(self, rows: torch.Tensor) -> bool:
        return rows.ndim == 2 and rows.dtype == self.dtype and rows.is_contiguous()

    def add_to(self, table: TermTable, runs: RunTable, x: torch.Tensor, y: torch.Tensor) -> None:
        """As `Terms.add_to` for the rows of each run. `x [n, in]`, `y [n, out]`, contiguous."""
        if self._hidden.numel() < runs.num_rows * table.max_rank:
            self._hidden = torch.empty(runs.num_rows * table.max_rank, dtype=torch.float32)
        self._apply(
            table.address,
            len(table),
            runs.address,
            runs.num_runs,
            x.data_ptr(),
            y.data_ptr(),
            x.shape[-1],
            y.shape[-1],
            self._hidden.data_ptr(),
            self._num_threads,
        )


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
