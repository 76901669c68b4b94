"""transformers' `Cache` over our pages: the past of several sequences, each right-aligned.

Right-aligned, a query and a key are as far apart by index as by position, so masks, windows and
ALiBi that a model derives from indices and the 2-D mask are right for every sequence.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache

from service.core import Segment
from service.model.kv_store import KVStore


class PaddedCache(Cache):
    """For one call of `[B, width]` rows; the real rows of sequence b are the last ones of row b."""

    def __init__(
        self, store: KVStore, segments: list[Segment], width: int, device: torch.device
    ) -> None:
        super().__init__(layers=[])
        self._store = store
        self._width = width
        self._length = max(width, max(one.end for one in segments))
        tables = [_token_slots(one, store.block_size) for one in segments]
        padded = [[0] * (self._length - len(table)) + table for table in tables]
        self._index = torch.tensor(padded, device=device)
        """`[B, length]`: token slot of each key; slot 0 where the mask hides it"""
        self.mask = torch.tensor(
            [[0] * (self._length - len(table)) + [1] * len(table) for table in tables],
            device=device,
        )
        """`[B, length]`: 1 = a position of the sequence"""
        new = [
            [0] * (width - one.num_rows) + [1] * one.num_rows  # Padding on the left is not stored.
            for one in segments
        ]
        self._rows = torch.tensor(new, device=device).flatten().nonzero()[:, 0]
        self.write_index = self._index[:, -width:].flatten()[self._rows]
        """Token slots of the real rows, in the order of the call"""

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`[B, heads, width, dim]` → all keys and values, `[B, heads, length, dim]`."""
        self._store.write(layer_idx, self.write_index, *map(self._real, (key_states, value_states)))
        keys, values = self._store.rows(layer_idx, self._index)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def _real(self, states: torch.Tensor) -> torch.Tensor:
        return states.transpose(1, 2).flatten(0, 1)[self._rows]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length - self._width

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self._length - self._width

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self._length, 0


def _token_slots(segment: Segment, block_size: int) -> list[int]:
    """Of all positions that the sequence has after the step."""
    return [
        segment.block_table[position // block_size] * block_size + position % block_size
        for position in range(segment.end)
    ]
