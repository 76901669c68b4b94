"""Linear modules in 8 or 4 bits (bitsandbytes), seen without importing it."""

from typing import Any

import torch

_PARAMETERS = frozenset({"Params4bit", "Int8Params"})
"""Classes by which peft, too, tells such weights (`utils/integrations.py`)."""


def is_quantized(module: torch.nn.Module) -> bool:
    """Its weight is packed: neither shape nor dtype nor values are those of a matrix."""
    return type(getattr(module, "weight", None)).__name__ in _PARAMETERS


def rounds_inputs(module: torch.nn.Module) -> bool:
    """Whether it rounds every input row to 8 bits, which is not linear."""
    return type(getattr(module, "weight", None)).__name__ == "Int8Params"


def float_weight(module: Any) -> torch.Tensor:
    """`[out, in]` in float32: what the module computes with. The module is left alone."""
    weight: torch.Tensor = module.weight
    if not is_quantized(module):
        return weight.detach().float()
    import bitsandbytes.functional as bits

    if rounds_inputs(module):
        plain: torch.Tensor = bits.int8_vectorwise_dequant(weight.data, module.state.SCB)
    else:
        plain = bits.dequantize_4bit(weight.data, module.weight.quant_state)
    return plain.float()
