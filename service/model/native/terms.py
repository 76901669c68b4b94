"""The native form of the operator's row-wise terms, for runs of any length.

`terms.h` has the arithmetic, `operator/terms.py` is its twin.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch

from service.model.native.scratch import Scratch
from service.operator.terms import Terms

_ENTRY = np.dtype([("a", "u8"), ("b", "u8"), ("c", "u8"), ("d", "u8"), ("rank", "i8")])
_HIDDEN_ALIGN = 8
"""`kHiddenAlign` of the kernel: a row's part of what lies between A and B is a multiple of it."""
_FUNCTIONS = {torch.float32: "apply_terms_float32", torch.bfloat16: "apply_terms_bfloat16"}


class RunTable:
    """Runs of a step in the kernel's layout; made once and read at every site."""

    def __init__(self, runs: Sequence[tuple[int, int, int]]) -> None:
        """(slot, first row, one past the last row) of each."""
        self._array = np.array(runs, dtype=np.int32).reshape(len(runs), 3)
        self._list = np.array([self._array.ctypes.data, len(runs)], dtype=np.int64)
        self.address = int(self._list.ctypes.data)
        self.num_rows = int((self._array[:, 2] - self._array[:, 1]).sum())


class TermTable:
    """Where each slot's terms lie, for one site. The tensors are kept alive by the site's forms."""

    def __init__(self) -> None:
        self._entries = np.zeros(8, dtype=_ENTRY)
        self._site = np.zeros(4, dtype=np.int64)
        self.address = int(self._site.ctypes.data)
        self.num_in = self.num_out = 0
        """Widths of the site; the first is 0 as long as no slot reads the site's input."""
        self.hidden_size = 0
        """Floats that one row takes between A and B, at most."""

    def set(self, slot: int, terms: Terms) -> None:
        while slot >= len(self._entries):
            self._entries = np.concatenate([self._entries, np.zeros_like(self._entries)])
        rank = 0 if terms.a is None else len(terms.a)
        addresses = (_address(terms.a), _address(terms.b), _address(terms.c), _address(terms.d))
        self._entries[slot] = (*addresses, rank)
        self.hidden_size = max(self.hidden_size, -(-rank // _HIDDEN_ALIGN) * _HIDDEN_ALIGN)
        if terms.a is not None:
            self.num_in = terms.a.shape[1]
        for outputs in (terms.b, terms.c, terms.d):
            if outputs is not None:
                self.num_out = len(outputs)
        entries = int(self._entries.ctypes.data)
        self._site[:] = entries, len(self._entries), self.num_in, self.num_out

    def clear(self, slot: int) -> None:
        if slot < len(self._entries):
            self._entries[slot] = 0


class NativeTerms:
    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._apply = getattr(library, _FUNCTIONS[dtype])
        self._apply.argtypes = [*[ctypes.c_void_p] * 5, ctypes.c_int]
        self._apply.restype = None
        self._num_threads = torch.get_num_threads()
        self._hidden = Scratch()

    def table(self) -> TermTable:
        return TermTable()

    def runs(self, runs: Sequence[tuple[int, int, int]]) -> RunTable:
        return RunTable(runs)

    def takes(self, table: TermTable, num_rows: int, x: torch.Tensor, y: torch.Tensor) -> bool:
        return (
            y.dtype == x.dtype == self.dtype
            and y.numel() == num_rows * table.num_out
            and (x.numel() == num_rows * table.num_in or not table.num_in)
            and y.is_contiguous()
            and x.is_contiguous()
        )

    def add_to(self, table: TermTable, runs: RunTable, x: torch.Tensor, y: torch.Tensor) -> None:
        """As `Terms.add_to` for the rows of each run, of what `takes` takes."""
        self._apply(
            table.address,
            runs.address,
            x.data_ptr(),
            y.data_ptr(),
            self._hidden.address(runs.num_rows * table.hidden_size),
            self._num_threads,
        )


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
