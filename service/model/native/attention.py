"""Attention of a step over paged keys and values: few rows of a sequence one by one, many together.

`attention_rows.h` and `attention_chunks.h` have the arithmetic, `attend` of model/attention.py is
their twin.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from service.model.kernels import LayerCache
from service.step import Segment

_MAX_TOTAL = 16384
"""`kMaxTotal` of the kernel: floats that one key-value head's queries may take."""

_FUNCTIONS = {torch.float32: "attention_float32", torch.bfloat16: "attention_bfloat16"}
_i64, _float, _pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class _View(ctypes.Structure):
    _fields_ = [("data", _pointer), ("row_stride", _i64), ("head_stride", _i64)]


class _Call(ctypes.Structure):
    _fields_ = [
        ("segments", _pointer), ("blocks", _pointer), ("slots", _pointer),
        ("query", _View), ("key", _View), ("value", _View),
        ("keys", _pointer), ("values", _pointer), ("out", _pointer),
        ("slopes", _pointer), ("sinks", _pointer),
        ("num_segments", _i64), ("num_new", _i64),
        ("heads", _i64), ("kv_heads", _i64), ("key_dim", _i64), ("value_dim", _i64),
        ("block_size", _i64), ("window", _i64),
        ("scaling", _float), ("softcap", _float), ("num_threads", _i64),
    ]  # fmt: skip


class RowTable:
    """Rows of a step in the kernel's layout; made once and read at every layer."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        """Of these segments, all rows."""
        places: list[tuple[int, int, int, int]] = []
        blocks: list[int] = []
        for one in segments:
            places.append((one.first_row, one.context_len, len(blocks), one.num_rows))
            blocks += one.block_table
        self._segments = np.array(places, dtype=np.int32)
        self._blocks = np.array(blocks, dtype=np.int32)
        self.num_segments = len(places)
        self.segments_address = int(self._segments.ctypes.data)
        self.blocks_address = int(self._blocks.ctypes.data)


class NativeAttention:
    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._run = getattr(library, _FUNCTIONS[dtype])
        self._run.argtypes = [ctypes.POINTER(_Call)]
        self._run.restype = None
        self._call = _Call(num_threads=torch.get_num_threads())

    def rows(self, segments: Sequence[Segment]) -> RowTable:
        return RowTable(segments)

    def takes(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
        _, kv_heads, _, value_dim = value.shape
        return (
            query.dtype == key.dtype == value.dtype == self.dtype
            and query.stride(3) == key.stride(3) == value.stride(3) == 1
            and value_dim >= 8
            and query.shape[1] // kv_heads * value_dim <= _MAX_TOTAL
        )

    def write_and_attend(
        self,
        table: RowTable,
        slots: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cache: LayerCache,
        out: torch.Tensor,
        options: dict[str, Any],
    ) -> None:
        """As `AttentionKernel` says."""
        call = self._call
        sinks = _floats(options.get("s_aux"))
        slopes = _floats(options.get("alibi_slopes"))
        call.segments, call.blocks = table.segments_address, table.blocks_address
        call.num_segments = table.num_segments
        call.slots = slots.data_ptr()
        call.query, call.key, call.value = _view(query), _view(key), _view(value)
        call.keys, call.values = cache.keys.data_ptr(), cache.values.data_ptr()
        call.out = out.data_ptr()
        call.sinks, call.slopes = _address(sinks), _address(slopes)
        _, call.kv_heads, call.num_new, call.key_dim = key.shape
        _, call.heads, call.value_dim = out.shape
        call.block_size = cache.block_size
        call.window = options.get("sliding_window") or 0
        call.scaling = options.get("scaling") or call.key_dim**-0.5
        call.softcap = options.get("softcap") or 0.0
        self._run(call)


def _view(tensor: torch.Tensor) -> _View:
    _, head_stride, row_stride, _ = tensor.stride()
    return _View(tensor.data_ptr(), row_stride, head_stride)


def _floats(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.float().contiguous()


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
