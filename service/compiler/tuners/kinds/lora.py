"""The LoRA family as peft holds it: plain, DoRA, `lora_bias`, on linear modules, Conv1D and
embeddings (peft `tuners/lora/layer.py`, `tuners/lora/dora.py`)."""

from typing import Any

import torch

_PLAIN_VARIANTS = frozenset({"DoraLinearVariant", "ALoraLinearVariant", "QALoraLinearVariant"})


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    variant = layer.lora_variant.get(adapter)
    name = None if variant is None else type(variant).__name__
    if adapter in layer.lora_embedding_A:
        return _embedding(layer, adapter) if variant is None else None
    if adapter not in layer.lora_A or (name is not None and name != "DoraLinearVariant"):
        return None
    scaling = layer.scaling[adapter]
    a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float() * scaling
    bias = layer.lora_B[adapter].bias
    terms = {"a": a, "b": b}
    if bias is not None:
        terms["d"] = bias.float() * scaling
    return _with_magnitude(layer, adapter, terms) if name else terms


def _embedding(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    """`scaling * (A[:, id] B^T)`, times the factor by which some bases scale their embeddings."""
    scaling = layer.scaling[adapter] * _embed_scale(layer)
    return {
        "a": layer.lora_embedding_A[adapter].float(),
        "b": layer.lora_embedding_B[adapter].float() * scaling,
    }


def _embed_scale(layer: Any) -> float:
    return float(getattr(layer.get_base_layer(), "embed_scale", 1.0))


def _with_magnitude(
    layer: Any, adapter: str, terms: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """DoRA: `c = m / ||W + s B A||` by rows scales the product, not the bias."""
    weight = layer.get_base_weight().float()
    if layer.fan_in_fan_out:
        weight = weight.T
    norm = torch.linalg.norm(weight + terms["b"] @ terms["a"], dim=1)
    scale = layer.lora_magnitude_vector[adapter].weight.detach().float() / norm
    scaled = {"a": terms["a"], "b": terms["b"] * scale[:, None], "c": scale}
    if layer.get_base_layer().bias is not None:
        scaled["d"] = layer.get_base_layer().bias.float() * (1 - scale)
    return scaled
