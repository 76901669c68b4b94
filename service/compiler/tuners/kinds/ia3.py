"""IA3: learned factors on the outputs of attention, on the inputs of feed-forward modules.

peft `tuners/ia3/layer.py`: `base(x * l)` where `is_feedforward`, else `base(x) * l`.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    factors = layer.ia3_l[adapter].detach().flatten()
    return {"scale" if layer.is_feedforward else "c": factors}
