"""The native form of the operator's row-wise terms, for the short runs of a decode step.

`terms.cpp` has the arithmetic, `operator/terms.py` is its twin; at start both are compared, and
where they differ, or nothing can be compiled, the twin does the work alone.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog
import torch

from service.model.native.build import BuildFailed, build_library
from service.operator.terms import Terms

log = structlog.get_logger(__name__)

MAX_RUN_ROWS = 32
"""From about here on a matrix product of torch's own is faster."""
NATIVE_TERMS = frozenset({"a", "b", "c", "d"})

_ENTRY = np.dtype([("a", "u8"), ("b", "u8"), ("c", "u8"), ("d", "u8"), ("rank", "i8")])
_FUNCTIONS = {torch.float32: "apply_terms_float32", torch.bfloat16: "apply_terms_bfloat16"}
_SOURCE = Path(__file__).with_name("terms.cpp")


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


def load_native(folder: Path, dtype: torch.dtype, device: torch.device) -> NativeTerms | None:
    """None where there is no such kernel, or it does not do what its twin does."""
    if device.type != "cpu" or dtype not in _FUNCTIONS:
        return None
    try:
        native = NativeTerms(ctypes.CDLL(str(build_library(_SOURCE, folder))), dtype)
    except (BuildFailed, OSError) as error:
        log.warning("native_kernel_missing", reason=str(error))
        return None
    if not _equals_twin(native):
        log.warning("native_kernel_wrong", reason="it differs from its twin")
        return None
    return native


def _equals_twin(native: NativeTerms) -> bool:
    """On sizes that no vector width divides, with terms that are absent."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = native.dtype) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).sub(0.5).to(dtype)

    num_in, num_out = 141, 83
    vectors = {name: draw(num_out, dtype=torch.float32) for name in ("c", "d")}
    forms = {
        0: Terms(a=draw(16, num_in), b=draw(num_out, 16)),
        9: Terms(a=draw(5, num_in), b=draw(num_out, 5), **vectors),
        3: Terms(d=vectors["d"]),
    }
    runs = [(0, 0, 3), (9, 3, 4), (1, 4, 5), (3, 6, 8), (99, 8, 9)]
    table = TermTable()
    for slot, terms in forms.items():
        table.set(slot, terms)
    x, y = draw(9, num_in), draw(9, num_out)
    twin = y.float().clone()
    for slot, start, stop in runs:
        if slot in forms:
            _widened(forms[slot]).add_to(twin[start:stop], x[start:stop].float())
    native.add_to(table, RunTable(runs), x, y)
    return torch.allclose(y.float(), twin, rtol=2 * torch.finfo(native.dtype).eps, atol=1e-5)


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _widened(terms: Terms) -> Terms:
    values = {name: getattr(terms, name) for name in NATIVE_TERMS}
    return Terms(**{name: value.float() for name, value in values.items() if value is not None})
