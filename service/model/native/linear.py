"""The native form of linear modules on few rows, with the adapters' terms of the site.

`linear.h` has the arithmetic; torch's own is its twin.
"""

import ctypes

import numpy as np
import torch

from service.model.kernels import PackedWeight
from service.model.native.build import processor
from service.model.native.scratch import Scratch
from service.model.native.terms import RunTable, TermTable

_FUNCTIONS = {torch.float32: "linear_float32", torch.bfloat16: "linear_bfloat16"}
_BLOCK = 64
"""`kBlock` of the kernel: outputs whose weights lie beside each other."""
_WORD_BYTES = 4
_MOST_ROWS = 32
"""From about here on oneDNN is as fast."""
_MOST_ROWS_IN_PAIRS = 128
"""`kLinearRows` of the kernel, where the processor multiplies pairs of bfloat16."""
_MOST_ROWS_BESIDE_AMX = 8
"""Whose tiles multiply more rows in the time that the weight takes from memory."""


class LinearWeight:
    """Where a module's weight lies. It and the bias are kept alive by whoever packed them."""

    def __init__(self, packed: PackedWeight, block_size: int) -> None:
        bias = packed.bias
        self._record = np.array(
            [
                packed.address,
                0 if bias is None else bias.data_ptr(),
                packed.num_in,
                packed.num_out,
                block_size,
            ],
            dtype=np.int64,
        )
        self.address = int(self._record.ctypes.data)
        self.num_in, self.num_out = packed.num_in, packed.num_out


class NativeLinear:
    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.max_rows = _max_rows(dtype)
        self._multiply = getattr(library, _FUNCTIONS[dtype])
        self._multiply.argtypes = [*[ctypes.c_void_p] * 6, ctypes.c_int64, ctypes.c_int]
        self._multiply.restype = None
        self._num_threads = torch.get_num_threads()
        self._hidden = Scratch()

    def weight(self, packed: PackedWeight) -> LinearWeight | None:
        """As `LinearKernel` says: blocks of whole words, with room for every input."""
        block_bytes, rest = divmod(packed.num_bytes, -(-packed.num_out // _BLOCK))
        num_words = -(-packed.num_in * self.dtype.itemsize // _WORD_BYTES)
        if rest or block_bytes % _WORD_BYTES or block_bytes < num_words * _WORD_BYTES * _BLOCK:
            return None
        if packed.bias is not None and packed.bias.dtype != self.dtype:
            return None
        return LinearWeight(packed, block_bytes // _WORD_BYTES)

    def takes(self, weight: LinearWeight, x: torch.Tensor) -> bool:
        return (
            0 < x.numel() <= self.max_rows * weight.num_in
            and x.shape[-1] == weight.num_in
            and x.dtype == self.dtype
            and x.is_contiguous()
        )

    def multiply(
        self,
        weight: LinearWeight,
        x: torch.Tensor,
        table: TermTable | None = None,
        runs: RunTable | None = None,
    ) -> torch.Tensor:
        """As `LinearKernel` says, of what `takes` takes."""
        y = x.new_empty((*x.shape[:-1], weight.num_out))
        site = list_of_runs = hidden = None
        if table is not None and runs is not None:
            site, list_of_runs = table.address, runs.address
            hidden = self._hidden.address(runs.num_rows * table.hidden_size)
        self._multiply(
            weight.address,
            site,
            list_of_runs,
            hidden,
            x.data_ptr(),
            y.data_ptr(),
            x.numel() // weight.num_in,
            self._num_threads,
        )
        return y


def _max_rows(dtype: torch.dtype) -> int:
    has = processor() if dtype == torch.bfloat16 else frozenset()
    if "amx_bf16" in has:
        return _MOST_ROWS_BESIDE_AMX
    return _MOST_ROWS_IN_PAIRS if "avx512_bf16" in has else _MOST_ROWS
