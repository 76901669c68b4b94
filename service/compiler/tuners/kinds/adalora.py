"""AdaLoRA: `s / (ranknum + 1e-5) * B diag(E) A` (peft `tuners/adalora/layer.py`)."""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    """The rank is what is left of it at this module; where nothing is left there are no terms."""
    a = layer.lora_A[adapter].float() * layer.lora_E[adapter].float()
    if not len(a):
        return {}
    factor = layer.scaling[adapter] / (layer.ranknum[adapter].float() + 1e-5)
    return {"a": a, "b": layer.lora_B[adapter].float() * factor}
