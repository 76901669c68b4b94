"""Where attention costs a prompt's row as much as the products."""

import math
from types import SimpleNamespace
from typing import Any

from transformers import LlamaConfig

from service.model.kv_store import LayerShape
from service.model.row_cost import double_position

CONFIG = LlamaConfig(num_attention_heads=16, num_key_value_heads=4)
LAYERS = {number: LayerShape(4, 64, 64) for number in range(2)}


def site(num_in: int, num_out: int, kind: str = "linear", rows: str = "all") -> Any:
    return SimpleNamespace(kind=kind, rows=rows, in_features=num_in, out_features=num_out)


def test_a_longer_way_for_more_products_and_a_shorter_for_more_heads() -> None:
    products = [site(768, 768)] * 8
    one = double_position(CONFIG, LAYERS, products)
    assert 100 < one < 10_000
    assert double_position(CONFIG, LAYERS, products * 2) == 2 * one
    assert double_position(CONFIG, {0: LAYERS[0]}, products) == 2 * one
    assert double_position(LlamaConfig(num_attention_heads=32), LAYERS, products) == one / 2


def test_what_is_no_product_of_every_row_does_not_count() -> None:
    products = [site(768, 768), site(768, 64, "conv1d")]
    others = [site(768, 32000, rows="wanted"), site(32000, 768, "embedding"), site(1, 768, "norm")]
    one = double_position(CONFIG, LAYERS, products)
    assert double_position(CONFIG, LAYERS, products + others) == one
    assert double_position(CONFIG, LAYERS, products[:1]) < one


def test_a_model_that_keeps_nothing_of_a_position_has_none() -> None:
    assert double_position(CONFIG, {}, [site(1, 1)]) == math.inf
    assert double_position(CONFIG, LAYERS, []) == math.inf
