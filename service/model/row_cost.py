"""What a row of a prompt costs by its position."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from service.base import SiteDescription
from service.model.describe import config_value
from service.model.kv_store import LayerShape

_ATTENTION_RATE = 0.5
"""Of that of linear products, as measured on a processor with chunks of 64 to 128 rows."""


def double_position(
    config: Any, layers: Mapping[int, LayerShape], sites: Iterable[SiteDescription]
) -> float:
    """Position from where attention takes a row as long as all linear modules do.

    For each position before it every head of every layer multiplies with a key and a value.
    Infinite where `layers` keep nothing of a position.
    """
    num_heads = config_value(config, "num_attention_heads") or 0
    attention = num_heads * sum(one.key_dim + one.value_dim for one in layers.values())
    linear = sum(
        one.in_features * one.out_features
        for one in sites
        if one.kind in ("linear", "conv1d") and one.rows != "wanted"
    )
    return _ATTENTION_RATE * linear / attention if linear and attention else math.inf
