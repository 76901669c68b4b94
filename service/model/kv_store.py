"""Paged keys and values of all layers; whose block is whose, `engine/block_manager.py` says."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
import torch

from service.model.kernels import LayerCache
from service.model.pages import Range, keep_pages_small

_PROVIDED_ROWS = 128
_LARGEST = 1e15
"""Far beyond any key or value that means something; its products are finite in 32 bits."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer stores per token; key and value widths may differ."""

    num_heads: int
    key_dim: int
    value_dim: int

    @property
    def elements(self) -> int:
        return self.num_heads * (self.key_dim + self.value_dim)


def bytes_per_token(shapes: dict[int, LayerShape], dtype: torch.dtype) -> int:
    return sum(shape.elements for shape in shapes.values()) * dtype.itemsize


class KVStore:
    """Per layer `keys [num_blocks * block_size, heads, dim]`, values alike."""

    def __init__(
        self,
        shapes: dict[int, LayerShape],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self._row_bytes = bytes_per_token(shapes, dtype)
        rows = num_blocks * block_size
        self._keys = {
            layer: _zeros((rows, one.num_heads, one.key_dim), dtype, device)
            for layer, one in shapes.items()
        }
        self._values = {
            layer: _zeros((rows, one.num_heads, one.value_dim), dtype, device)
            for layer, one in shapes.items()
        }

    def first_memory(self, num_bytes: int) -> Iterator[Range]:
        """Where the first `num_bytes` of the store lie, in the order in which blocks are given out,
        a little at a time. None of it where memory is not paged by the system."""
        parts = [one for one in (*self._keys.values(), *self._values.values()) if one.is_cpu]
        num_rows = min(self.num_blocks * self.block_size, num_bytes // self._row_bytes)
        for start in range(0, num_rows, _PROVIDED_ROWS):
            stop = min(start + _PROVIDED_ROWS, num_rows)
            for one in parts:
                yield one[start].data_ptr(), one[stop - 1].data_ptr() + one[0].nbytes

    def write(
        self, layer: int, index: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Store `keys`, `values` `[T, heads, dim]` at the token slots `index [T]`."""
        self._keys[layer].index_copy_(0, index, _bounded(keys))
        self._values[layer].index_copy_(0, index, _bounded(values))

    def layer(self, layer: int) -> LayerCache:
        return LayerCache(self._keys[layer], self._values[layer], self.block_size)

    def gather(self, layer: int, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `[B, n * block_size, heads, dim]` of the block tables `blocks [B, n]`."""
        return self._gather(self._keys[layer], blocks), self._gather(self._values[layer], blocks)

    def rows(self, layer: int, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `[B, n, heads, dim]` at the token slots `index [B, n]`."""
        keys, values = self._keys[layer], self._values[layer]
        shape = index.shape
        return (
            keys.index_select(0, index.flatten()).view(*shape, *keys.shape[1:]),
            values.index_select(0, index.flatten()).view(*shape, *values.shape[1:]),
        )

    def _gather(self, rows: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        paged = rows.view(self.num_blocks, self.block_size, *rows.shape[1:])
        picked = paged.index_select(0, blocks.flatten())
        return picked.view(blocks.shape[0], -1, *rows.shape[1:])


def largest(dtype: torch.dtype) -> float:
    """What a number in the store may be at most."""
    return min(_LARGEST, torch.finfo(dtype).max)


def _bounded(rows: torch.Tensor) -> torch.Tensor:
    """An adapter may overflow. What it leaves in a block is gathered with other sequences' rows and
    hidden by a mask, which hides neither NaN nor a product that becomes infinite."""
    limit = largest(rows.dtype)
    return rows.nan_to_num(nan=0.0).clamp_(-limit, limit)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, since what a mask hides still must not be NaN; on a CPU, pages nobody has used yet
    take no memory and no time (numpy asks the system for zeroed pages, torch writes them). They
    stay small: a block that is new in all layers would have the step clear a huge page in each."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = numpy.zeros(num_bytes, dtype=numpy.uint8)
    keep_pages_small((memory.ctypes.data, memory.ctypes.data + num_bytes))
    return torch.from_numpy(memory).view(dtype).view(shape)
