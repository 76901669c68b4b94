"""Attention over the paged store: one call for all decode rows, one per part of a prompt.

Registered in transformers' `AttentionInterface`, so the model's own code calls it with rotated
queries and keys of the flattened batch, `[1, heads, T, dim]`.
"""

import itertools
import math
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import AttentionInterface

from service.model.context import StepContext
from service.model.kv_store import KVStore
from service.step import Segment

Options = dict[str, Any]
"""What a model's layer asks of its attention, by transformers' names, and `alibi_slopes`."""

_names = (f"repertoire_{number}" for number in itertools.count())


class Attention(Protocol):
    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]: ...


def register(attention: Attention) -> str:
    """Make `attention` known to transformers; the name for `set_attn_implementation`.

    No mask function is registered under the name, so transformers builds no mask at all.
    """
    name = next(_names)
    AttentionInterface.register(name, attention)
    return name


def block_tables(segments: list[Segment], block_size: int, device: torch.device) -> torch.Tensor:
    """`[B, n]` int64, padded with block 0, which the mask hides."""
    counts = [-(-(one.context_len + one.num_rows) // block_size) for one in segments]
    longest = max(counts)
    tables = [
        one.block_table[:count] + [0] * (longest - count)
        for one, count in zip(segments, counts, strict=True)
    ]
    return torch.tensor(tables, device=device)


def causal_mask(
    segments: list[Segment], length: int, window: int | None, device: torch.device
) -> torch.Tensor:
    """`[B, 1, n, length]` bool, True = may be seen; all segments have n rows.

    A sliding window of w sees the last w positions, the row's own included (as transformers does).
    """
    first = torch.tensor([one.context_len for one in segments], device=device)
    rows = first[:, None] + torch.arange(segments[0].num_rows, device=device)
    keys = torch.arange(length, device=device)
    visible = keys <= rows[..., None]
    if window is not None:
        visible &= keys > rows[..., None] - window
    return visible[:, None]


def alibi_mask(visible: torch.Tensor, slopes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`visible [B, 1, n, length]`, `slopes [H]` → `[B, H, n, length]`: what is added to a score.

    Rounded to the run dtype after the product, as transformers' `build_alibi_tensor` does.
    """
    positions = torch.arange(visible.shape[-1], device=visible.device)
    bias = (slopes[:, None, None] * positions).to(dtype)
    return torch.where(visible, bias, float("-inf"))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """`query [B, n, H, D]`, `key, value [B, L, Hk, D]` → `[B, n, H, Dv]`.

    `mask [B, 1 or H, n, L]` is bool (True = may be seen) or is added to the scores. Query heads of
    a group are folded into the query length, so grouped heads cost no copies of K.
    """
    batch, rows, heads, dim = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    folded = query.view(batch, rows, kv_heads, group, dim).permute(0, 2, 3, 1, 4)
    folded = folded.reshape(batch, kv_heads, group * rows, dim)
    mask = mask.expand(-1, heads, -1, -1).reshape(batch, kv_heads, group * rows, -1)
    key, value = key.transpose(1, 2), value.transpose(1, 2)
    if softcap is None and sinks is None:
        out = functional.scaled_dot_product_attention(
            folded, key, value, attn_mask=mask, scale=scaling
        )
    else:
        out = _attend_eager(folded, key, value, mask, scaling, softcap, sinks)
    out = out.view(batch, kv_heads, group, rows, -1).permute(0, 3, 1, 2, 4)
    return out.reshape(batch, rows, heads, -1)


def _attend_eager(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """For what SDPA cannot do: logit soft-capping (Gemma 2) and attention sinks (gpt-oss)."""
    scores = (query @ key.transpose(2, 3)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    is_bias = mask.is_floating_point()
    scores = scores + mask if is_bias else scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        batch, kv_heads, rows, _ = scores.shape
        per_head = sinks.float().view(1, kv_heads, -1, 1)
        repeats = rows // per_head.shape[2]
        column = per_head.repeat_interleave(repeats, 2).expand(batch, -1, -1, -1)
        scores = torch.cat([scores, column], dim=-1)
        return (scores.softmax(-1)[..., :-1]).to(query.dtype) @ value
    return scores.softmax(-1).to(query.dtype) @ value


def add_adaptions(out: torch.Tensor, query: torch.Tensor, layer: int, context: StepContext) -> None:
    """Add `gate * softmax(q K^T / sqrt(dim)) V` of the adapters that have it to their own rows.

    `query [T, H, dim]`, `out [T, H, Dv]`; the softmax is over the learned keys alone
    (LLaMA-Adapter, arXiv 2303.16199; peft `tuners/adaption_prompt/layer.py`).
    """
    for run in context.rows.runs:
        parts = context.adaptions.get(run.slot, {}).get(layer)
        if parts is not None:
            mine = query[run.start : run.stop].transpose(0, 1)
            scores = mine @ parts["key"].transpose(1, 2) / math.sqrt(query.shape[-1])
            learned = scores.float().softmax(-1).to(query.dtype) @ parts["value"]
            out[run.start : run.stop] += parts["gate"] * learned.transpose(0, 1)


def by_row(heads: torch.Tensor) -> torch.Tensor:
    """`[1, heads, T, dim]` → `[T, heads, dim]`."""
    return heads[0].transpose(0, 1)


class PagedAttention:
    """The attention of the ragged lane."""

    def __init__(self, context: StepContext, store: KVStore) -> None:
        self._context = context
        self._store = store

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """`query [1, H, T, D]` → `[1, T, H, Dv]`. `attention_mask` is None: see `register`."""
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        index = self._context.write_index
        assert index is not None, "the lane has begun the step"
        heads, num_rows, value_dim = *query.shape[1:3], value.shape[3]
        out = query.new_empty(num_rows, heads, value_dim)
        kernels = self._context.kernels
        if kernels is not None and kernels.attention.takes(query, key, value):
            cache, table = self._store.layer(layer), self._context.kernel_rows
            kernels.attention.write_and_attend(table, index, query, key, value, cache, out, options)
        else:
            rows, keys, values = (by_row(one) for one in (query, key, value))
            self._store.write(layer, index, keys, values)
            for chunk in self._chunks():
                first = chunk[0].first_row
                found = self._attend_chunk(layer, chunk, rows, options)
                out[first : first + len(found)] = found
        if self._context.adaptions:
            add_adaptions(out, by_row(query), layer, self._context)
        return out[None], None

    def _chunks(self) -> list[list[Segment]]:
        """All decode rows at once, and each part of a prompt."""
        count = self._context.num_decode
        segments = self._context.segments
        decode = [segments[:count]] if count else []
        return decode + [[one] for one in segments[count:]]

    def _attend_chunk(
        self, layer: int, chunk: list[Segment], rows: torch.Tensor, options: Options
    ) -> torch.Tensor:
        """Attention of segments that have equally many, neighbouring rows → `[rows, H, Dv]`."""
        first, per_segment = chunk[0].first_row, chunk[0].num_rows
        query = rows[first : first + per_segment * len(chunk)]
        query = query.reshape(len(chunk), per_segment, *rows.shape[1:])
        tables = self._tables(chunk, rows.device)
        mask = self._mask(chunk, tables, query.dtype, options)
        key, value = self._store.gather(layer, tables)
        out = attend(
            query,
            key,
            value,
            mask,
            scaling=options.get("scaling") or rows.shape[-1] ** -0.5,
            softcap=options.get("softcap"),
            sinks=options.get("s_aux"),
        )
        return out.flatten(0, 1)

    def _tables(self, chunk: list[Segment], device: torch.device) -> torch.Tensor:
        cache, first = self._context.block_tables, chunk[0].first_row
        if first not in cache:
            cache[first] = block_tables(chunk, self._store.block_size, device)
        return cache[first]

    def _mask(
        self, chunk: list[Segment], tables: torch.Tensor, dtype: torch.dtype, options: Options
    ) -> torch.Tensor:
        """Built once per step and window, not once per layer."""
        window, slopes = options.get("sliding_window"), options.get("alibi_slopes")
        cache, key = self._context.masks, (chunk[0].first_row, window, slopes is not None)
        if key not in cache:
            length = tables.shape[1] * self._store.block_size
            mask = causal_mask(chunk, length, window, tables.device)
            cache[key] = mask if slopes is None else alibi_mask(mask, slopes, dtype)
        return cache[key]
