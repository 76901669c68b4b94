"""The Triton kernels against their torch twins."""

import pytest
import torch

from service.model import attention_twin, terms_twin
from service.model.triton import attention as attention_module
from service.model.triton.attention import TritonAttention
from service.model.triton.terms import TritonTerms
from service.operator.terms import Terms
from service.step import Segment
from tests.model.triton.kernels import DEVICE, DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_terms_are_those_of_the_twin(dtype: torch.dtype) -> None:
    assert terms_twin.equals(TritonTerms(dtype, DEVICE), DEVICE)


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_that_of_the_twin(
    dtype: torch.dtype, splits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the positions of a sequence are shared out to several programs or not."""
    monkeypatch.setattr(attention_module, "_splits", lambda num_tiles, kv_heads: splits)
    assert attention_twin.equals(TritonAttention(dtype, DEVICE), DEVICE)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(DEVICE)


def test_adapters_of_any_rank_and_any_number_of_rows_are_taken_in_one_call() -> None:
    """More rows than a tile, more inputs and outputs than a block, B stored either way."""
    torch.manual_seed(0)
    num_in, num_out = 2100, 260
    vector = draw(num_out)
    forms = {
        0: Terms(a=draw(8, num_in), b=draw(num_out, 8)),
        4: Terms(a=draw(64, num_in), b=draw(64, num_out).t(), d=vector),
        11: Terms(c=vector),
    }
    runs = [(4, 0, 37), (0, 37, 38), (11, 40, 57)]
    kernel = TritonTerms(torch.float32, DEVICE)
    table = kernel.table()
    for slot, terms in forms.items():
        table.set(slot, terms)
    x, y = draw(58, num_in), draw(58, num_out)
    twin = y.clone()
    for slot, start, stop in runs:
        forms[slot].add_to(twin[start:stop], x[start:stop])
    kernel.add_to(table, kernel.runs(runs), x, y)
    torch.testing.assert_close(y, twin, rtol=1e-4, atol=1e-3)
    table.clear(4)
    before = y.clone()
    kernel.add_to(table, kernel.runs([(4, 0, 37)]), x, y)
    assert torch.equal(before, y)


def test_a_tile_of_nobody_does_nothing() -> None:
    """A captured graph has tiles that a step may not need."""
    kernel = TritonTerms(torch.float32, DEVICE)
    table = kernel.table()
    table.set(0, Terms(a=draw(8, 32), b=draw(16, 8), d=draw(16)))
    x, y = draw(2, 32), draw(2, 16)
    before = y.clone()
    kernel.add_to(table, kernel.runs([(-1, 0, 1), (-1, 1, 2)]), x, y)
    assert torch.equal(before, y)


def test_positions_are_split_only_where_few_rows_leave_a_device_idle() -> None:
    assert attention_module._splits(1, 8) == 16
    assert attention_module._splits(16, 8) == 2
    assert attention_module._splits(256, 8) == 1


def test_prompts_longer_than_a_tile_are_cut() -> None:
    segments = [
        Segment("a", first_row=0, num_rows=1, context_len=3, block_table=[5]),
        Segment("b", first_row=1, num_rows=20, context_len=7, block_table=[1, 2]),
    ]
    tiles = TritonAttention(torch.float32, DEVICE).rows(segments)
    assert tiles.single.tolist() == [[0, 1, 3, 0]]
    assert tiles.several.tolist() == [[1, 16, 7, 1], [17, 4, 23, 1]]
    assert tiles.blocks.tolist() == [5, 1, 2]
