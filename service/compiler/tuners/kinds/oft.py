"""OFT: blocks of the input are rotated before the base's weight (peft `tuners/oft/layer.py`).

The rotation is the Cayley transform of a skew matrix, solved or as a truncated Neumann series, as
the config says; peft's own functions compute it here. With `coft` the skew matrix is first drawn
into a ball, which peft does in every forward.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor] | None:
    """None at an embedding, where it rotates the output."""
    if adapter not in layer.oft_R:
        return None
    module = layer.oft_R[adapter]
    skew = module.weight.detach().float()
    if module.coft:
        skew = module._project_batch(skew, eps=module.eps)
    rotation = module._cayley_batch(
        skew, module.block_size, module.use_cayley_neumann, module.num_cayley_neumann_terms
    )
    return {"rotation": rotation}
