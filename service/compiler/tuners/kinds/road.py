"""RoAd: pairs of outputs, half a group apart, are rotated and scaled (peft `tuners/road/layer.py`).

`y_i = first_i y_i - second_i y_j` for the first half of a group and `+` for the second.
"""

from typing import Any

import torch
from peft.tuners.road.layer import _prepare_cols


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    size = layer.group_size[adapter]
    theta, alpha = layer.road_theta[adapter].float(), layer.road_alpha[adapter].float()
    first, second = _prepare_cols(layer.variant[adapter], size, theta, alpha)
    outputs = torch.arange(len(first))
    is_first_half = outputs % size < size // 2
    half = torch.where(is_first_half, size // 2, -(size // 2))
    turn = torch.where(is_first_half, -second, second)
    return {"c": first, "turn": turn, "partner": outputs + half}
