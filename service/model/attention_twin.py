"""A kernel of attention beside its twin, `attend` of model/attention.py."""

from typing import Any

import torch

from service.model.attention import alibi_mask, attend, block_tables, by_row, causal_mask
from service.model.kernels import AttentionKernel
from service.model.kv_store import KVStore, LayerShape
from service.model.lanes.ragged import write_index
from service.step import Segment

_BLOCK_SIZE = 4
_HEADS, _KV_HEADS, _KEY_DIM, _VALUE_DIM = 6, 2, 43, 24
"""Sizes that no vector width divides."""
_SCATTERED = [9, 1, 8, 0, 6, 2, 5, 4, 3, 10]
_LONG = list(range(39, 12, -1))


def equals(kernel: AttentionKernel, device: torch.device) -> bool:
    """With every option alone, none and all of them, over blocks in no order."""
    generator = torch.Generator().manual_seed(0)
    each: list[dict[str, Any]] = [
        {"scaling": 0.3},
        {"sliding_window": 5},
        {"softcap": 2.0},
        {"s_aux": torch.rand(_HEADS, generator=generator).to(device, kernel.dtype)},
        {"alibi_slopes": torch.rand(_HEADS, generator=generator).to(device) / 8},
    ]
    every = {name: value for options in each for name, value in options.items()}
    return all(_is_equal(kernel, device, options, generator) for options in [{}, *each, every])


def _is_equal(
    kernel: AttentionKernel,
    device: torch.device,
    options: dict[str, Any],
    generator: torch.Generator,
) -> bool:
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, kernel.dtype)

    segments = [
        Segment("a", first_row=0, num_rows=1, context_len=0, block_table=[7]),
        Segment("b", first_row=1, num_rows=1, context_len=37, block_table=_SCATTERED),
        Segment("c", first_row=2, num_rows=2, context_len=5, block_table=[12, 11]),
        Segment("d", first_row=4, num_rows=46, context_len=61, block_table=_LONG),
    ]
    num_rows, num_blocks = 50, 40
    shape = LayerShape(_KV_HEADS, _KEY_DIM, _VALUE_DIM)
    store = KVStore({0: shape}, num_blocks, _BLOCK_SIZE, kernel.dtype, device)
    cache = store.layer(0)
    cache.keys.copy_(draw(*cache.keys.shape))
    cache.values.copy_(draw(*cache.values.shape))
    query = draw(1, _HEADS, num_rows, _KEY_DIM)
    key = draw(1, _KV_HEADS, num_rows, _KEY_DIM)
    value = draw(1, _KV_HEADS, num_rows, _VALUE_DIM)
    slots = torch.tensor(write_index(segments, _BLOCK_SIZE), device=device)
    out = torch.zeros(num_rows, _HEADS, _VALUE_DIM, dtype=kernel.dtype, device=device)
    if not kernel.takes(query, key, value):
        return False
    kernel.write_and_attend(kernel.rows(segments), slots, query, key, value, cache, out, options)
    is_written = torch.equal(cache.keys[slots], by_row(key)) and torch.equal(
        cache.values[slots], by_row(value)
    )
    twin = torch.cat([_attended(one, by_row(query), store, options) for one in segments])
    tolerance = max(4 * torch.finfo(kernel.dtype).eps, 1e-5)
    return is_written and torch.allclose(out.float(), twin, rtol=tolerance, atol=tolerance)


def _attended(
    segment: Segment, query: torch.Tensor, store: KVStore, options: dict[str, Any]
) -> torch.Tensor:
    """`[rows, H, Dv]`, in float32 from what is stored."""
    rows = slice(segment.first_row, segment.first_row + segment.num_rows)
    keys, values = store.gather(0, block_tables([segment], _BLOCK_SIZE, query.device))
    mask = causal_mask([segment], keys.shape[1], options.get("sliding_window"), query.device)
    if (slopes := options.get("alibi_slopes")) is not None:
        mask = alibi_mask(mask, slopes, query.dtype).float()
    return attend(
        query[None, rows].float(),
        keys.float(),
        values.float(),
        mask,
        scaling=options.get("scaling") or _KEY_DIM**-0.5,
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )[0]
