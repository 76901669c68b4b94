"""Attention of the ragged lane on a GPU: every segment, decode rows and parts of prompts alike.

`attention_kernels.py` has the arithmetic, `attend` of model/attention.py is its twin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from service.model.kernels import LayerCache
from service.model.kv_store import largest
from service.model.triton import attention_kernels as kernels
from service.step import Segment

_BLOCK_POSITIONS = 64
_PROMPT_ROWS = 16
"""Rows of a tile of a prompt."""
_PROGRAMS = 264
"""Twice the multiprocessors of a large GPU: with fewer tiles than that, positions are split."""
_MAX_SPLITS = 16


@dataclass(frozen=True, slots=True)
class RowTiles:
    """Rows of a step in the kernel's layout; made once and read at every layer.

    Single rows and parts of prompts are tiles of their own kinds, launched one after the other.
    """

    single: torch.Tensor
    """`[n, 4]` int32, as `attention_kernels.py` says"""
    several: torch.Tensor
    """the same"""
    blocks: torch.Tensor

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> "RowTiles":
        single: list[tuple[int, int, int, int]] = []
        several: list[tuple[int, int, int, int]] = []
        blocks: list[int] = []
        for one in segments:
            tiles = single if one.num_rows == 1 else several
            tiles += [
                (
                    one.first_row + offset,
                    min(_PROMPT_ROWS, one.num_rows - offset),
                    one.context_len + offset,
                    len(blocks),
                )
                for offset in range(0, one.num_rows, _PROMPT_ROWS)
            ]
            blocks += one.block_table
        return cls(
            _int32(single, device).view(-1, 4),
            _int32(several, device).view(-1, 4),
            _int32(blocks, device),
        )


class TritonAttention:
    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self._device = device

    def rows(self, segments: Sequence[Segment]) -> RowTiles:
        return RowTiles.of(segments, self._device)

    def takes(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
        return (
            query.dtype == key.dtype == value.dtype == self.dtype
            and query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        )

    def write_and_attend(
        self,
        rows: RowTiles,
        slots: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cache: LayerCache,
        out: torch.Tensor,
        options: dict[str, Any],
    ) -> None:
        """As `AttentionKernel` says; a key and value at slot -1 is stored nowhere."""
        query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
        self._write(slots, key, value, cache)
        splits = _splits(len(rows.single), key.shape[1])
        self._attend(rows.single, 1, splits, rows.blocks, query, cache, out, options)
        self._attend(rows.several, _PROMPT_ROWS, 1, rows.blocks, query, cache, out, options)

    def _write(
        self, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cache: LayerCache
    ) -> None:
        num_rows, kv_heads, key_dim = key.shape
        kernels.write[num_rows, kv_heads](
            key,
            value,
            cache.keys,
            cache.values,
            slots,
            largest(self.dtype),
            *key.stride()[:2],
            *value.stride()[:2],
            KV_HEADS=kv_heads,
            KEY_DIM=key_dim,
            VALUE_DIM=value.shape[2],
            BLOCK_KEY=_power(key_dim),
            BLOCK_VALUE=_power(value.shape[2]),
        )

    def _attend(
        self,
        tiles: torch.Tensor,
        tile_rows: int,
        splits: int,
        blocks: torch.Tensor,
        query: torch.Tensor,
        cache: LayerCache,
        out: torch.Tensor,
        options: dict[str, Any],
    ) -> None:
        if not len(tiles):
            return
        (num_rows, heads, value_dim), (_, kv_heads, key_dim) = out.shape, cache.keys.shape
        sinks, slopes = options.get("s_aux"), options.get("alibi_slopes")
        parts = out.new_empty(splits, num_rows, heads, value_dim + 2, dtype=torch.float32)
        totals, peaks, sums = _parts(parts, splits, num_rows * heads, value_dim)
        kernels.attend[len(tiles), kv_heads, splits](
            query,
            cache.keys,
            cache.values,
            out,
            totals,
            peaks,
            sums,
            tiles,
            blocks,
            _floats(sinks, out),
            _floats(slopes, out),
            *query.stride()[:2],
            num_rows,
            options.get("scaling") or key_dim**-0.5,
            options.get("softcap") or 1.0,
            options.get("sliding_window") or 0,
            HEADS=heads,
            KV_HEADS=kv_heads,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            BLOCK_KEY=_power(key_dim),
            BLOCK_VALUE=_power(value_dim),
            BLOCK_SIZE=cache.block_size,
            TILE_ROWS=tile_rows,
            BLOCK_ROWS=_power(tile_rows * (heads // kv_heads)),
            BLOCK_POSITIONS=_BLOCK_POSITIONS,
            HAS_SOFTCAP=bool(options.get("softcap")),
            HAS_SINKS=sinks is not None,
            HAS_SLOPES=slopes is not None,
            SPLITS=splits,
        )
        if splits > 1:
            kernels.combine[len(tiles), heads](
                out,
                totals,
                peaks,
                sums,
                tiles,
                _floats(sinks, out),
                num_rows,
                HEADS=heads,
                VALUE_DIM=value_dim,
                BLOCK_VALUE=_power(value_dim),
                HAS_SINKS=sinks is not None,
                SPLITS=splits,
            )


def _parts(
    parts: torch.Tensor, splits: int, num_places: int, value_dim: int
) -> tuple[torch.Tensor, ...]:
    """One allocation as `totals`, `peaks` and `sums`."""
    count = splits * num_places
    return torch.split(parts.view(-1), [count * value_dim, count, count])


def _splits(num_tiles: int, kv_heads: int) -> int:
    """Of the positions of single rows: a power of two."""
    wanted = _PROGRAMS // max(1, num_tiles * kv_heads)
    return 1 << (min(_MAX_SPLITS, max(1, wanted)).bit_length() - 1)


def _power(size: int) -> int:
    """The block for so many elements; tensor cores take no fewer than 16."""
    return max(16, 1 << (size - 1).bit_length())


def _floats(tensor: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
    """`out` stands for what is absent: the kernel never reads it."""
    return out if tensor is None else tensor.float().contiguous()


def _int32(values: list[Any], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32).to(device)
