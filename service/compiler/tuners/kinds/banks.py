"""Kinds whose A and B are made of something smaller that all sites share.

VB-LoRA: every piece of A and B is a softmax-weighted sum of the k best vectors of a bank (peft
`tuners/vblora/layer.py`). UniLoRA: every entry is one of a vector's, scaled (peft
`tuners/unilora/layer.py`). TinyLoRA: `B R A` with A and B from the singular vectors of the base's
weight and R a sum of fixed matrices (peft `tuners/tinylora/layer.py`).
"""

from typing import Any

import torch


def read_matrices(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    """VB-LoRA and UniLoRA, which have the method in common."""
    a, b = layer._get_lora_matrices(adapter, cast_to_fp32=True)
    return {"a": a, "b": b}


def read_tiny(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    """None at an embedding."""
    if isinstance(layer.get_base_layer(), torch.nn.Embedding):
        return None
    mixed = layer.tinylora_B[adapter].float() @ layer._compute_R(adapter).float()
    return {"a": layer.tinylora_A[adapter], "b": mixed}
