"""Paged attention of tiles of rows, and the write of new keys and values.

    out = softmax(softcap(scaling * q K^T) + slope * position) V      per row and query head

`attend` of model/attention.py is the twin. `tiles [n, 4]` int32: first row of the batch, how many
rows (0: the tile does nothing), position of the first, where the sequence's blocks begin in
`blocks`. The queries of all heads that share a key-value head are one matrix of rows * group, so a
key is read once for all of them; the softmax runs over blocks of positions with a running maximum
(arXiv 2205.14135). With SPLITS > 1 the positions of a tile are shared out to several programs and
`combine` joins what they found (flash decoding), so that few sequences still fill a device.
"""

import triton
import triton.language as tl


@triton.jit
def write(
    key, value, keys, values, slots, limit,
    key_row_stride, key_head_stride, value_row_stride, value_head_stride,
    KV_HEADS: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr,
):  # fmt: skip
    """Row by head. Slot -1 is nowhere. Not-a-number becomes 0 and values stay within `limit`, as
    in `KVStore.write`."""
    row, head = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row)
    if slot < 0:
        return
    place = slot * KV_HEADS + head
    dims = tl.arange(0, BLOCK_KEY)
    found = tl.load(
        key + row.to(tl.int64) * key_row_stride + head * key_head_stride + dims, mask=dims < KEY_DIM
    )
    tl.store(keys + place * KEY_DIM + dims, _bounded(found, limit), mask=dims < KEY_DIM)
    dims = tl.arange(0, BLOCK_VALUE)
    found = tl.load(
        value + row.to(tl.int64) * value_row_stride + head * value_head_stride + dims,
        mask=dims < VALUE_DIM,
    )
    tl.store(values + place * VALUE_DIM + dims, _bounded(found, limit), mask=dims < VALUE_DIM)


@triton.jit
def _bounded(found, limit):
    exact = found.to(tl.float32)
    exact = tl.where(exact != exact, 0.0, exact)
    return tl.minimum(tl.maximum(exact, -limit), limit).to(found.dtype)


@triton.jit
def attend(
    query, keys, values, out, totals, peaks, sums, tiles, blocks, sinks, slopes,
    row_stride, head_stride, num_rows, scaling, softcap, window,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    TILE_ROWS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_POSITIONS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr, HAS_SLOPES: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """Grid: tiles, key-value heads, SPLITS. `window` 0 = none.

    Without splits `out [T, HEADS, VALUE_DIM]` is final; with them `totals [SPLITS, num_rows, HEADS,
    VALUE_DIM]`, `peaks` and `sums [SPLITS, num_rows, HEADS]` are what `combine` takes.
    """
    tile, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    count = tl.load(tiles + tile * 4 + 1)
    if count == 0:
        return
    GROUP: tl.constexpr = HEADS // KV_HEADS
    index = tl.arange(0, BLOCK_ROWS)
    is_row = (index < TILE_ROWS * GROUP) & (index // GROUP < count)
    rows = (tl.load(tiles + tile * 4) + index // GROUP).to(tl.int64)
    heads = kv_head * GROUP + index % GROUP
    first_position = tl.load(tiles + tile * 4 + 2)
    positions = first_position + index // GROUP
    table = blocks + tl.load(tiles + tile * 4 + 3)

    dims = tl.arange(0, BLOCK_KEY)
    queries = tl.load(
        query + rows[:, None] * row_stride + heads[:, None] * head_stride + dims[None, :],
        mask=is_row[:, None] & (dims < KEY_DIM)[None, :],
        other=0.0,
    )
    value_dims = tl.arange(0, BLOCK_VALUE)
    end = first_position + count
    begin = 0
    if window > 0:
        begin = tl.maximum(first_position - window + 1, 0) // BLOCK_POSITIONS * BLOCK_POSITIONS
    length = tl.cdiv(tl.cdiv(end - begin, BLOCK_POSITIONS), SPLITS) * BLOCK_POSITIONS
    begin += part * length
    end = tl.minimum(begin + length, end)

    peak = tl.full([BLOCK_ROWS], float("-inf"), dtype=tl.float32)
    total_weight = tl.zeros([BLOCK_ROWS], dtype=tl.float32)
    total = tl.zeros([BLOCK_ROWS, BLOCK_VALUE], dtype=tl.float32)
    if HAS_SLOPES:
        slope = tl.load(slopes + heads, mask=is_row, other=0.0)
    for first in range(begin, end, BLOCK_POSITIONS):
        seen = first + tl.arange(0, BLOCK_POSITIONS)
        is_seen = seen < end
        block = tl.load(table + seen // BLOCK_SIZE, mask=is_seen, other=0).to(tl.int64)
        slot = (block * BLOCK_SIZE + seen % BLOCK_SIZE) * KV_HEADS + kv_head
        key = tl.load(
            keys + slot[None, :] * KEY_DIM + dims[:, None],
            mask=is_seen[None, :] & (dims < KEY_DIM)[:, None],
            other=0.0,
        )
        scores = tl.dot(queries, key, input_precision="ieee") * scaling
        if HAS_SOFTCAP:
            # tanh by exp of what cannot overflow
            folded = tl.exp(-2 * tl.abs(scores / softcap))
            scores = tl.where(scores < 0, -1.0, 1.0) * softcap * (1 - folded) / (1 + folded)
        if HAS_SLOPES:
            # Rounded to the run dtype, as transformers' `build_alibi_tensor` does.
            scores += (slope[:, None] * seen[None, :]).to(query.dtype.element_ty).to(tl.float32)
        visible = is_row[:, None] & is_seen[None, :] & (seen[None, :] <= positions[:, None])
        if window > 0:
            visible = visible & (seen[None, :] > positions[:, None] - window)
        scores = tl.where(visible, scores, float("-inf"))
        raised = tl.maximum(peak, tl.max(scores, axis=1))
        # A row that has seen nothing yet has no finite maximum to subtract.
        floor = tl.where(raised == float("-inf"), 0.0, raised)
        weights = tl.exp(scores - floor[:, None])
        factor = tl.exp(peak - floor)
        value = tl.load(
            values + slot[:, None] * VALUE_DIM + value_dims[None, :],
            mask=is_seen[:, None] & (value_dims < VALUE_DIM)[None, :],
            other=0.0,
        )
        total_weight = total_weight * factor + tl.sum(weights, axis=1)
        total = tl.dot(
            weights.to(value.dtype), value, total * factor[:, None], input_precision="ieee"
        )
        peak = raised

    is_value = is_row[:, None] & (value_dims < VALUE_DIM)[None, :]
    if SPLITS == 1:
        if HAS_SINKS:
            sink = tl.load(sinks + heads, mask=is_row, other=0.0)
            raised = tl.maximum(peak, sink)
            total = total * tl.exp(peak - raised)[:, None]
            total_weight = total_weight * tl.exp(peak - raised) + tl.exp(sink - raised)
        place = (rows * HEADS + heads)[:, None] * VALUE_DIM + value_dims[None, :]
        # Only what is no row has no weight.
        found = total / tl.where(total_weight == 0, 1.0, total_weight)[:, None]
        tl.store(out + place, found.to(out.dtype.element_ty), is_value)
    else:
        place = (part * num_rows + rows) * HEADS + heads
        tl.store(totals + place[:, None] * VALUE_DIM + value_dims[None, :], total, is_value)
        tl.store(peaks + place, peak, is_row)
        tl.store(sums + place, total_weight, is_row)


@triton.jit
def combine(
    out, totals, peaks, sums, tiles, sinks, num_rows,
    HEADS: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE: tl.constexpr,
    HAS_SINKS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Of tiles that have one row each. Grid: tiles, heads."""
    tile, head = tl.program_id(0), tl.program_id(1)
    if tl.load(tiles + tile * 4 + 1) == 0:
        return
    row = tl.load(tiles + tile * 4).to(tl.int64)
    dims = tl.arange(0, BLOCK_VALUE)
    peak = float("-inf")
    if HAS_SINKS:
        peak = tl.load(sinks + head)
    for part in range(SPLITS):
        peak = tl.maximum(peak, tl.load(peaks + (part * num_rows + row) * HEADS + head))
    weight = 0.0
    if HAS_SINKS:
        weight = tl.exp(tl.load(sinks + head) - peak)
    total = tl.zeros([BLOCK_VALUE], dtype=tl.float32)
    for part in range(SPLITS):
        place = (part * num_rows + row) * HEADS + head
        factor = tl.exp(tl.load(peaks + place) - peak)
        weight += tl.load(sums + place) * factor
        total += factor * tl.load(
            totals + place * VALUE_DIM + dims, mask=dims < VALUE_DIM, other=0.0
        )
    here = out + (row * HEADS + head) * VALUE_DIM + dims
    tl.store(here, (total / weight).to(out.dtype.element_ty), mask=dims < VALUE_DIM)
