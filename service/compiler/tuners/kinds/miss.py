"""MiSS: inputs r apart are added up before a matrix `[r, out]` (peft `tuners/miss/layer.py`).

`init_weights="mini"` repeats a narrower matrix along the outputs. In `"bat"` every block of outputs
changes the weight in its own way, which no term says.
"""

from functools import lru_cache
from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    if layer.miss_fn == "bat":
        return None
    block = layer.miss_block[adapter].float()
    if layer.miss_fn == "mini":
        block = block.repeat(1, layer.out_features // layer.miss_mini_r[adapter])
    return {"a": _every(len(block), layer.in_features), "b": block.t()}


@lru_cache
def _every(rank: int, num_in: int) -> torch.Tensor:
    """`[rank, in]`: one where the input's number modulo the rank is the row's. Sites share it."""
    return (torch.arange(num_in) % rank == torch.arange(rank)[:, None]).float()
