"""BEFT: a learned bias beside the base's own (peft `tuners/beft/layer.py`)."""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    return {"d": layer.beft_bias[adapter].flatten()}
