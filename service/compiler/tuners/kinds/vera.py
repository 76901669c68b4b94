"""VeRA: `diag(lambda_b) B diag(lambda_d) A`, where the sites share A and B (peft
`tuners/vera/layer.py`). PVeRA without its noise: the mean, which the first half of A's rows makes
(peft `tuners/pvera/layer.py`).

Each site takes the corner of its size; corners of the same size are one tensor of the adapter.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    return {
        "a": layer.vera_A[adapter][:, : layer.in_features],
        "b": layer.vera_B[adapter][: layer.out_features],
        "inner": layer.vera_lambda_d[adapter],
        "outer": layer.vera_lambda_b[adapter],
    }


def read_mean(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    if layer.sample_at_inference[adapter]:
        return None
    inner, _ = layer.pvera_lambda_d[adapter].chunk(2)
    return {
        "a": layer.pvera_A[adapter][: len(inner), : layer.in_features],
        "b": layer.pvera_B[adapter][: layer.out_features],
        "inner": inner,
        "outer": layer.pvera_lambda_b[adapter],
    }
