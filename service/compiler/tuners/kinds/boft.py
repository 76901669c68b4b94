"""BOFT without the butterfly: blocks of the input are rotated by Cayley transforms, and the outputs
of the base's weight, not its bias, are scaled (peft `tuners/boft/layer.py`).

More than one factor needs an extension of peft's for CUDA; without it peft makes one, whatever the
config says.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    if adapter not in layer.boft_R or len(layer.boft_R[adapter]) > 1:
        return None
    rotation = layer.cayley_batch(layer.boft_R[adapter].detach()[0].float())
    scale = layer.boft_s[adapter].detach().float().flatten()
    terms = {"rotation": rotation, "c": scale}
    if layer.get_base_layer().bias is not None:
        terms["d"] = layer.get_base_layer().bias.float() * (1 - scale)
    return terms
