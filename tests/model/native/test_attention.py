"""One step of mixed segments through the paged attention, with and without the kernel."""

from typing import Any

import pytest
import torch

from service.model.attention import PagedAttention
from service.model.context import StepContext
from service.model.kernels import Kernels
from service.model.kv_store import KVStore, LayerShape
from service.model.lanes.ragged import write_index
from service.step import Segment, Step
from tests.model.native.library import CPU, native_of

BLOCK_SIZE = 4
HEADS, KV_HEADS, DIM = 4, 2, 24
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])
LONG = 11
SEGMENTS = [
    Segment("decode", 0, 1, 9, [3, 0, 5]),
    Segment("other", 1, 1, 0, [1]),
    Segment("chunk", 2, LONG, 2, [2, 4, 6, 7]),
    Segment("short", 2 + LONG, 2, 3, [9, 8]),
]
NUM_ROWS = SEGMENTS[-1].first_row + SEGMENTS[-1].num_rows


def attended(
    native: Kernels | None,
    dtype: torch.dtype,
    options: dict[str, Any],
    dim: int = DIM,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What attention returns, and what it has stored."""
    torch.manual_seed(0)
    store = KVStore({0: LayerShape(kv_heads, dim, dim)}, 10, BLOCK_SIZE, dtype, CPU)
    past = torch.arange(10 * BLOCK_SIZE)
    store.write(0, past, *torch.randn(2, len(past), kv_heads, dim).to(dtype))
    context = StepContext(kernels=native)
    step = Step([0] * NUM_ROWS, [0] * NUM_ROWS, [-1] * NUM_ROWS, SEGMENTS, 2, [], [])
    context.begin(step, [], torch.tensor(write_index(SEGMENTS, BLOCK_SIZE)))
    query = torch.randn(1, heads, NUM_ROWS, dim).to(dtype)
    key, value = torch.randn(2, 1, kv_heads, NUM_ROWS, dim).to(dtype)
    value[0, 0, 1, 3] = float("nan")
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    out, _ = PagedAttention(context, store)(module, query, key, value, None, **options)
    return out.float(), store.layer(0).values.float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [{}, {"sliding_window": 3}, {"softcap": 1.5}, {"s_aux": SINKS, "scaling": 0.7}],
    ids=["plain", "window", "softcap", "sinks"],
)
def test_attention_is_the_same_with_and_without_the_kernel(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    (out, stored), (twin, twin_stored) = (
        attended(native, dtype, options) for native in (native_of(dtype), None)
    )
    assert torch.equal(stored, twin_stored)
    assert stored.isfinite().all(), "nobody else may find what overflowed"
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(out, twin, rtol=tolerance, atol=tolerance)


def test_heads_that_are_too_wide_for_chunks_attend_by_rows() -> None:
    (out, _), (twin, _) = (
        attended(native, torch.float32, {}, dim=264) for native in (native_of(torch.float32), None)
    )
    torch.testing.assert_close(out, twin, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(40, 1), (10, 5), (3, 3)])
def test_any_number_of_threads_shares_the_heads(
    monkeypatch: pytest.MonkeyPatch, heads: int, kv_heads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    (out, _), (twin, _) = (
        attended(native, torch.float32, {}, heads=heads, kv_heads=kv_heads)
        for native in (native_of(torch.float32), None)
    )
    torch.testing.assert_close(out, twin, rtol=1e-5, atol=1e-5)


def test_rows_of_every_segment_are_attended_once() -> None:
    out, _ = attended(native_of(torch.float32), torch.float32, {})
    alone, _ = attended(None, torch.float32, {})
    assert (out - alone).abs().amax((0, 2, 3)).max() < 1e-5
    assert out.abs().amax((0, 2, 3)).min() > 0
