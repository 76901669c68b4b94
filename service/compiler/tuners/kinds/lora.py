"""The LoRA family as peft holds it: plain, `lora_bias`, DoRA, aLoRA, block-diagonal, on linear
modules, Conv1D and embeddings (peft `tuners/lora/layer.py`, `dora.py`, `variants.py`)."""

from typing import Any

import torch

from service.quantized.modules import float_weight

_DORA = ("DoraLinearVariant", "DoraEmbeddingVariant")
_PLAIN = (
    "",
    "ALoraLinearVariant",  # the rows it is not for never reach the layer
    "BdLoraLinearVariant",
    "MiCALinearVariant",
    "MiCAEmbeddingVariant",
)
_CHUNK_ROWS = 4096

Tensors = dict[str, torch.Tensor]


def read(layer: Any, adapter: str) -> Tensors | None:
    variant = variant_of(layer, adapter)
    if variant not in _PLAIN + _DORA:
        return None
    if adapter in layer.lora_embedding_A:
        return _embedding(layer, adapter, is_dora=variant in _DORA)
    if adapter not in layer.lora_A:
        return None
    scaling = layer.scaling[adapter]
    terms = {
        "a": _matrix(layer.lora_A[adapter]),
        "b": _matrix(layer.lora_B[adapter]) * scaling,
    }
    bias = getattr(layer.lora_B[adapter], "bias", None)
    if bias is not None:
        terms["d"] = bias.float() * scaling
    return _with_magnitude(layer, adapter, terms) if variant in _DORA else terms


def variant_of(layer: Any, adapter: str) -> str:
    """The name of peft's variant; empty for plain LoRA and for other kinds."""
    variant = getattr(layer, "lora_variant", {}).get(adapter)
    return "" if variant is None else type(variant).__name__


def _matrix(factor: Any) -> torch.Tensor:
    is_blocks = hasattr(factor, "weight_as_blockdiagonal_matrix")
    weight: torch.Tensor = factor.weight_as_blockdiagonal_matrix() if is_blocks else factor.weight
    return weight.float()


def _embedding(layer: Any, adapter: str, *, is_dora: bool) -> Tensors:
    """`scaling * (A[:, id] B^T)`, times the factor by which some bases scale their embeddings."""
    a = layer.lora_embedding_A[adapter].float()
    b = layer.lora_embedding_B[adapter].float() * layer.scaling[adapter]
    scale = float(getattr(layer.get_base_layer(), "embed_scale", 1.0))
    if not is_dora:
        return {"a": a, "b": b * scale}
    norm = _norm_of_columns(layer.get_base_layer().weight, a, b)
    c = layer.lora_magnitude_vector[adapter].weight.detach().float() / norm
    return {"a": a, "b": b * scale * c[:, None], "c": c}


def _norm_of_columns(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of `W + A^T B^T`, over the vocabulary; a vocabulary's worth at once would be too much."""
    total = torch.zeros(weight.shape[1], dtype=torch.float64)
    for start in range(0, len(weight), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        moved = weight[rows].float() + a[:, rows].t() @ b.t()
        total += moved.double().square().sum(0)
    return total.sqrt().float()


def _with_magnitude(layer: Any, adapter: str, terms: Tensors) -> Tensors:
    """DoRA: `c = m / ||W + s B A||` by rows scales the product, not the bias."""
    weight = float_weight(layer.get_base_layer())
    if layer.fan_in_fan_out:
        weight = weight.T
    norm = torch.linalg.norm(weight + terms["b"] @ terms["a"], dim=1)
    scale = layer.lora_magnitude_vector[adapter].weight.detach().float() / norm
    scaled = {"a": terms["a"], "b": terms["b"] * scale[:, None], "c": scale}
    if layer.get_base_layer().bias is not None:
        scaled["d"] = layer.get_base_layer().bias.float() * (1 - scale)
    return scaled
