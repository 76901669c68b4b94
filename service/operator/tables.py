"""What an adapter does beside the sites: learned keys and values, by attention layer.

Names in `CompiledHeader.tables`, for each layer number:

    prefix.<layer>.key, .value      [n, kv heads, dim]: positions 0 .. n - 1 of every sequence
    adaption.<layer>.key, .value    [heads, n, dim]: an attention of its own beside the layer's
    adaption.<layer>.gate           [1]
"""

import torch


def prefix_name(layer: int, part: str) -> str:
    return f"prefix.{layer}.{part}"


def adaption_name(layer: int, part: str) -> str:
    return f"adaption.{layer}.{part}"


def layers_of(tables: dict[str, torch.Tensor], kind: str) -> dict[int, dict[str, torch.Tensor]]:
    """Tensors of one kind (`prefix` or `adaption`) by layer and part."""
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tables.items():
        owner, layer, part = name.split(".")
        if owner == kind:
            layers.setdefault(int(layer), {})[part] = tensor
    return layers
