"""Pages: what is written is read back, and what a mask hides has no effect whatever it is."""

import pytest
import torch

from service.model.attention import attend
from service.model.kv_store import KVStore, LayerShape, bytes_per_token

SHAPES = {0: LayerShape(2, 8, 4), 3: LayerShape(1, 8, 8)}
CPU = torch.device("cpu")


def make_store() -> KVStore:
    return KVStore(SHAPES, num_blocks=5, block_size=4, dtype=torch.float32, device=CPU)


def test_rows_are_read_back_through_the_block_table_in_order() -> None:
    store = make_store()
    keys, values = torch.randn(6, 2, 8), torch.randn(6, 2, 4)
    slots = torch.tensor([12, 13, 14, 15, 4, 5])  # Blocks 3, then 1.
    store.write(0, slots, keys, values)
    found_keys, found_values = store.gather(0, torch.tensor([[3, 1], [1, 0]]))
    assert torch.equal(found_keys[0, :6], keys)
    assert torch.equal(found_values[0, :6], values)
    assert torch.equal(found_keys[1, :2], keys[4:])
    assert not found_keys[1, 2:].any()


def test_layers_are_apart() -> None:
    store = make_store()
    store.write(0, torch.tensor([0]), torch.ones(1, 2, 8), torch.ones(1, 2, 4))
    assert not any(one.any() for one in store.gather(3, torch.tensor([[0]])))


def test_bytes_of_a_token_count_keys_and_values_of_every_layer() -> None:
    assert bytes_per_token(SHAPES, torch.bfloat16) == (2 * (8 + 4) + 1 * (8 + 8)) * 2


@pytest.mark.parametrize("left", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38])
def test_what_another_sequence_left_in_a_page_does_not_show(left: float) -> None:
    """Three positions of a page of four belong to the sequence, the fourth to nobody any more."""
    store = make_store()
    torch.manual_seed(0)
    keys, values = torch.randn(3, 2, 8), torch.randn(3, 2, 4)
    signs = torch.tensor([1.0, -1.0]).repeat(4)
    store.write(0, torch.tensor([3]), left * signs.expand(1, 2, 8), torch.full((1, 2, 4), left))
    store.write(0, torch.arange(3), keys, values)
    query = torch.randn(1, 1, 4, 8) * 30
    mask = torch.tensor([True, True, True, False])[None, None, None]
    paged_keys, paged_values = store.gather(0, torch.tensor([[0]]))
    for softcap in (None, 30.0):
        found = attend(query, paged_keys, paged_values, mask, 0.35, softcap, None)
        alone = attend(query, keys[None], values[None], mask[..., :3], 0.35, softcap, None)
        torch.testing.assert_close(found, alone)
