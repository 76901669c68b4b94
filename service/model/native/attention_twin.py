"""The native attention beside a plain softmax over gathered keys and values."""

from typing import Any

import torch

from service.model.native.attention import LayerCache, NativeAttention, RowTable
from service.step import Segment

_BLOCK_SIZE = 4
_HEADS, _KV_HEADS, _KEY_DIM, _VALUE_DIM = 6, 2, 43, 24
"""Sizes that no vector width divides."""
_SCATTERED = [9, 1, 8, 0, 6, 2, 5, 4, 3, 10]


def equals(native: NativeAttention) -> bool:
    """With every option alone, none and all of them, over blocks in no order."""
    generator = torch.Generator().manual_seed(0)
    each: list[dict[str, Any]] = [
        {"scaling": 0.3},
        {"sliding_window": 5},
        {"softcap": 2.0},
        {"s_aux": torch.rand(_HEADS, generator=generator).to(native.dtype)},
        {"alibi_slopes": torch.rand(_HEADS, generator=generator) / 8},
    ]
    every = {name: value for options in each for name, value in options.items()}
    return all(_is_equal(native, options, generator) for options in [{}, *each, every])


def _is_equal(native: NativeAttention, options: dict[str, Any], generator: torch.Generator) -> bool:
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(native.dtype)

    segments = [
        Segment("a", first_row=0, num_rows=1, context_len=0, block_table=[7]),
        Segment("b", first_row=1, num_rows=1, context_len=37, block_table=_SCATTERED),
        Segment("c", first_row=2, num_rows=3, context_len=5, block_table=[12, 11]),
    ]
    num_rows, num_slots = 5, 13 * _BLOCK_SIZE
    cache = LayerCache(
        draw(num_slots, _KV_HEADS, _KEY_DIM), draw(num_slots, _KV_HEADS, _VALUE_DIM), _BLOCK_SIZE
    )
    # As models make them: heads in front of rows.
    query = draw(_HEADS, num_rows, _KEY_DIM).transpose(0, 1)
    key = draw(_KV_HEADS, num_rows, _KEY_DIM).transpose(0, 1)
    value = draw(_KV_HEADS, num_rows, _VALUE_DIM).transpose(0, 1)
    slots = torch.tensor(
        [_slot(one, p) for one in segments for p in range(one.context_len, one.end)]
    )
    out = torch.zeros(num_rows, _HEADS, _VALUE_DIM, dtype=native.dtype)
    if not native.takes(query, key, value):
        return False
    native.write_and_attend(RowTable(segments), slots, query, key, value, cache, out, options)
    is_written = torch.equal(cache.keys[slots], key) and torch.equal(cache.values[slots], value)
    twin = torch.cat([_attended(one, query, cache, options) for one in segments])
    tolerance = max(4 * torch.finfo(native.dtype).eps, 1e-5)
    return is_written and torch.allclose(out.float(), twin, rtol=tolerance, atol=tolerance)


def _attended(
    segment: Segment, query: torch.Tensor, cache: LayerCache, options: dict[str, Any]
) -> torch.Tensor:
    """`[rows, H, Dv]` float32."""
    slots = torch.tensor([_slot(segment, position) for position in range(segment.end)])
    repeats = _HEADS // _KV_HEADS
    keys = cache.keys[slots].float().repeat_interleave(repeats, 1)
    values = cache.values[slots].float().repeat_interleave(repeats, 1)
    mine = query[segment.first_row : segment.first_row + segment.num_rows].float()
    scores = torch.einsum("nhd,lhd->hnl", mine, keys)
    scores *= options.get("scaling") or _KEY_DIM**-0.5
    if cap := options.get("softcap"):
        scores = torch.tanh(scores / cap) * cap
    positions = torch.arange(segment.end)
    if (slopes := options.get("alibi_slopes")) is not None:
        scores += (slopes[:, None] * positions).to(query.dtype).float()[:, None]
    own = positions[segment.context_len :, None]
    hidden = positions > own
    if window := options.get("sliding_window"):
        hidden |= positions <= own - window
    scores = scores.masked_fill(hidden, float("-inf"))
    if (sinks := options.get("s_aux")) is not None:
        column = sinks.float().view(-1, 1, 1).expand(-1, segment.num_rows, 1)
        return torch.einsum(
            "hnl,lhd->nhd", torch.cat([scores, column], -1).softmax(-1)[..., :-1], values
        )
    return torch.einsum("hnl,lhd->nhd", scores.softmax(-1), values)


def _slot(segment: Segment, position: int) -> int:
    return segment.block_table[position // _BLOCK_SIZE] * _BLOCK_SIZE + position % _BLOCK_SIZE
