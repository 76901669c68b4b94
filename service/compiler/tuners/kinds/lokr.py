"""LoKr: `s * W1 (x) W2`, a Kronecker product whose parts may be products themselves (peft
`tuners/lokr/layer.py`)."""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    if adapter in layer.lokr_t2:
        return None
    left = _part(layer.lokr_w1, layer.lokr_w1_a, layer.lokr_w1_b, adapter)
    right = _part(layer.lokr_w2, layer.lokr_w2_a, layer.lokr_w2_b, adapter)
    return {"kron_left": left, "kron_right": right * layer.scaling[adapter]}


def _part(whole: Any, first: Any, second: Any, adapter: str) -> torch.Tensor:
    part: torch.Tensor
    if adapter in whole:
        part = whole[adapter].float()
    else:
        part = first[adapter].float() @ second[adapter].float()
    return part
