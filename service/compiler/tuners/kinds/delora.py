"""DeLoRA: `B diag(lambda / r / (|A_i| |B_i|)) A diag(w)`, w the norms of the base weight's columns,
as they are saved with the adapter (peft `tuners/delora/layer.py`)."""

from typing import Any

import torch

_SMALLEST_NORM = 1e-4


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    a, b = layer.delora_A[adapter].float(), layer.delora_B[adapter].float()
    norms = a.norm(dim=1).clamp(min=_SMALLEST_NORM) * b.norm(dim=0).clamp(min=_SMALLEST_NORM)
    factors = layer.delora_lambda[adapter].float() / layer.r[adapter] / norms
    return {"a": a * layer.delora_w_norm[adapter].float(), "b": b * factors}
