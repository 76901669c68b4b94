"""Low rank, `c` and `d` of many adapters at one site, for tiles of rows that each belong to one.

    y = c * y + (x A^T) B^T + d

The twin is `Terms.add_to` of operator/terms.py. `entries [slots, ENTRY]` int64, with gaps between
the slots, says where each slot's terms lie: the addresses of A `[r, in]`, B, `c` and `d` (0 =
absent), r, and the strides of B along its outputs and its ranks. `tiles [n, 3]` int32: slot, first
row, one past the last; a tile of slot -1 does nothing, so that a captured graph may have more tiles
than a step needs. Cost follows each adapter's own rank (a loop, not a grid). Every row's sums are
split by the site's size alone, so they do not depend on what else is in the batch.
"""

import triton
import triton.language as tl

ENTRY = tl.constexpr(8)


@triton.jit
def shrink(
    x, hidden, tiles, entries, num_slots, slot_stride, num_rows, num_in, max_rank,
    SPLITS: tl.constexpr, TILE_ROWS: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_RANK: tl.constexpr,
):  # fmt: skip
    """`hidden [SPLITS, num_rows, max_rank]` float32: the parts of `x A^T`. Grid: tiles, SPLITS."""
    tile, part = tl.program_id(0), tl.program_id(1)
    slot = tl.load(tiles + tile * 3)
    if (slot < 0) | (slot >= num_slots):
        return
    rows = tl.load(tiles + tile * 3 + 1) + tl.arange(0, TILE_ROWS)
    is_row = rows < tl.load(tiles + tile * 3 + 2)
    entry = entries + slot.to(tl.int64) * slot_stride
    rank = tl.load(entry + 4).to(tl.int32)
    a = tl.load(entry).to(tl.pointer_type(x.dtype.element_ty))
    for first_rank in range(0, rank, BLOCK_RANK):
        ranks = first_rank + tl.arange(0, BLOCK_RANK)
        total = tl.zeros([TILE_ROWS, BLOCK_RANK], dtype=tl.float32)
        for first in range(part * BLOCK_IN, num_in, SPLITS * BLOCK_IN):
            inputs = first + tl.arange(0, BLOCK_IN)
            is_input = inputs < num_in
            xs = tl.load(
                x + rows[:, None].to(tl.int64) * num_in + inputs[None, :],
                mask=is_row[:, None] & is_input[None, :],
                other=0.0,
            )
            weights = tl.load(
                a + ranks[None, :].to(tl.int64) * num_in + inputs[:, None],
                mask=(ranks < rank)[None, :] & is_input[:, None],
                other=0.0,
            )
            total = tl.dot(xs, weights, total, input_precision="ieee")
        tl.store(
            hidden + (part * num_rows + rows[:, None]).to(tl.int64) * max_rank + ranks[None, :],
            total,
            mask=is_row[:, None] & (ranks < rank)[None, :],
        )


@triton.jit
def expand(
    hidden, y, tiles, entries, num_slots, slot_stride, num_rows, num_out, max_rank,
    SPLITS: tl.constexpr, TILE_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
):  # fmt: skip
    """Grid: tiles, blocks of outputs."""
    tile = tl.program_id(0)
    slot = tl.load(tiles + tile * 3)
    if (slot < 0) | (slot >= num_slots):
        return
    entry = entries + slot.to(tl.int64) * slot_stride
    rank = tl.load(entry + 4).to(tl.int32)
    c_address, d_address = tl.load(entry + 2), tl.load(entry + 3)
    if (rank == 0) & (c_address == 0) & (d_address == 0):
        return
    rows = tl.load(tiles + tile * 3 + 1) + tl.arange(0, TILE_ROWS)
    is_row = rows < tl.load(tiles + tile * 3 + 2)
    outputs = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    is_output = outputs < num_out
    here = y + rows[:, None].to(tl.int64) * num_out + outputs[None, :]
    is_here = is_row[:, None] & is_output[None, :]
    total = tl.load(here, mask=is_here, other=0.0).to(tl.float32)
    if c_address != 0:
        c = tl.load(c_address.to(tl.pointer_type(tl.float32)) + outputs, mask=is_output, other=0.0)
        total = total * c[None, :]
    b = tl.load(entry + 1).to(tl.pointer_type(y.dtype.element_ty))
    out_stride, rank_stride = tl.load(entry + 5), tl.load(entry + 6)
    for first_rank in range(0, rank, BLOCK_RANK):
        ranks = first_rank + tl.arange(0, BLOCK_RANK)
        is_rank = ranks < rank
        products = tl.zeros([TILE_ROWS, BLOCK_RANK], dtype=tl.float32)
        for part in range(SPLITS):
            products += tl.load(
                hidden + (part * num_rows + rows[:, None]).to(tl.int64) * max_rank + ranks[None, :],
                mask=is_row[:, None] & is_rank[None, :],
                other=0.0,
            )
        weights = tl.load(
            b + ranks[:, None] * rank_stride + outputs[None, :] * out_stride,
            mask=is_rank[:, None] & is_output[None, :],
            other=0.0,
        )
        rounded = products.to(y.dtype.element_ty)
        total = tl.dot(rounded, weights, total, input_precision="ieee")
        if y.dtype.element_ty != tl.float32:
            # What rounding took: the product is as exact as float32 keeps its factors.
            rest = (products - rounded.to(tl.float32)).to(y.dtype.element_ty)
            total = tl.dot(rest, weights, total, input_precision="ieee")
    if d_address != 0:
        d = tl.load(d_address.to(tl.pointer_type(tl.float32)) + outputs, mask=is_output, other=0.0)
        total = total + d[None, :]
    tl.store(here, total.to(y.dtype.element_ty), mask=is_here)
