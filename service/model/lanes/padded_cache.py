"""transformers' `Cache` over our pages: the past of several sequences, each right-aligned.

Right-aligned, a query and a key are as far apart by index as by position, so masks, windows and
ALiBi that a model derives from indices and the 2-D mask are right for every sequence.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache

from service.model.attention import block_tables
from service.model.kv_store import KVStore
from service.step import Segment


class PaddedCache(Cache):
    """For one call of `[B, width]` rows; the real rows of sequence b are the last ones of row b."""

    def __init__(
        self, store: KVStore, segments: list[Segment], width: int, device: torch.device
    ) -> None:
        super().__init__(layers=[])
        self._store = store
        self._width = width
        self._length = max(width, max(one.end for one in segments))
        ends = torch.tensor([[one.end] for one in segments], device=device)
        positions = torch.arange(self._length, device=device) + ends - self._length
        self.mask = (positions >= 0).long()
        """`[B, length]`: 1 = a position of the sequence"""
        positions.clamp_(min=0)  # What the mask hides is read from the sequence's own first slot.
        blocks = block_tables(segments, store.block_size, device)
        block = blocks.gather(1, positions // store.block_size)
        self._index = block * store.block_size + positions % store.block_size
        """`[B, length]`: token slot of each key"""
        new = torch.tensor([[one.num_rows] for one in segments], device=device)
        is_new = torch.arange(width, device=device) >= width - new
        self._rows = is_new.flatten().nonzero()[:, 0]
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
