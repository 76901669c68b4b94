"""Learned keys and values go into a sequence's own blocks before its first rows run."""

import torch

from service.model.context import StepContext
from service.model.kv_store import KVStore
from service.operator.tables import layers_of
from service.step import PrefixWrite


def write_prefixes(writes: list[PrefixWrite], context: StepContext, store: KVStore) -> None:
    for write in writes:
        for layer, parts in layers_of(context.tables[write.slot], "prefix").items():
            keys, values = parts["key"], parts["value"]
            index = _token_slots(write.block_table, len(keys), store.block_size)
            store.write(layer, index.to(keys.device), keys, values)


def _token_slots(block_table: list[int], count: int, block_size: int) -> torch.Tensor:
    """Token slots in the store of positions `0 .. count - 1`."""
    positions = torch.arange(count)
    return torch.tensor(block_table)[positions // block_size] * block_size + positions % block_size
