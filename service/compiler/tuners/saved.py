"""What peft keeps beside its layers: modules trained as a whole, and single token embeddings
(peft `utils/other.py`: `ModulesToSaveWrapper`, `TrainableTokensWrapper`)."""

from typing import Any

import torch


def parameters_by_module(saved: torch.nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Parameters by name, by path of the part of the saved module they belong to."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, parameter in saved.named_parameters():
        path, _, leaf = name.rpartition(".")
        parts.setdefault(path, {})[leaf] = parameter.detach()
    return parts


def token_terms(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    """Replaced rows of an embedding; where it is tied, also the columns of the output projection
    (peft `tuners/trainable_tokens/layer.py`)."""
    indices = layer.token_indices[adapter]
    base = layer.get_base_layer()
    if len(set(indices)) < len(indices) or getattr(base, "bias", None) is not None:
        return None
    if not indices:
        return {}
    ids = torch.tensor(indices, dtype=torch.int64)
    rows = layer.trainable_tokens_delta[adapter].detach().float()
    if isinstance(base, torch.nn.Embedding):
        return {"rows": ids, "row_values": rows * float(getattr(base, "embed_scale", 1.0))}
    return {"columns": ids, "column_weight": rows}
