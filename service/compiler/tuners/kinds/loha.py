"""LoHa: `s * (W1a W1b) o (W2a W2b)` (peft `tuners/loha/layer.py`).

The elementwise product of two matrices of rank r is one of rank r^2, exactly: its factors are the
products of all pairs of columns of W1a, W2a and of all pairs of rows of W1b, W2b.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    """None where the factors would be larger than the weight itself."""
    if adapter in layer.hada_t1:
        return None
    left1, right1 = layer.hada_w1_a[adapter].float(), layer.hada_w1_b[adapter].float()
    left2, right2 = layer.hada_w2_a[adapter].float(), layer.hada_w2_b[adapter].float()
    num_out, num_in = len(left1), right1.shape[1]
    rank = left1.shape[1] * left2.shape[1]
    if rank * (num_in + num_out) > num_in * num_out:
        return None
    a = (right1[:, None] * right2[None]).reshape(rank, num_in)
    b = (left1[:, :, None] * left2[:, None]).reshape(num_out, rank)
    return {"a": a, "b": b * layer.scaling[adapter]}
