"""What a sequence's past takes in memory where the model keeps it in a form of its own."""

from typing import Any

import torch
from transformers import PreTrainedModel

from service.model.kv_store import LayerShape
from service.model.lanes.solo import state_of
from service.model.memory import PastCost

_SHORT, _LONG = 8, 16


@torch.inference_mode()
def measure(model: PreTrainedModel) -> tuple[PastCost, dict[int, LayerShape]]:
    """The cost, from two lengths, and the shapes of the layers that keep keys and values."""
    short, long = (_past(model, length) for length in (_SHORT, _LONG))
    per_token = -(-(num_bytes(long) - num_bytes(short)) // (_LONG - _SHORT))
    return PastCost(per_token, max(0, num_bytes(short) - _SHORT * per_token)), _shapes(long)


def _past(model: PreTrainedModel, length: int) -> dict[str, Any]:
    ids = torch.ones(1, length, dtype=torch.long, device=model.device)
    return state_of(model(input_ids=ids, use_cache=True))


def num_bytes(state: Any) -> int:
    """Of all tensors in a model's own object, each counted once."""
    tensors: dict[int, torch.Tensor] = {}
    _collect(state, tensors, set())
    return sum(one.numel() * one.element_size() for one in tensors.values())


def _collect(value: Any, tensors: dict[int, torch.Tensor], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        tensors[id(value)] = value
    elif isinstance(value, dict):
        for one in value.values():
            _collect(one, tensors, seen)
    elif isinstance(value, list | tuple):
        for one in value:
            _collect(one, tensors, seen)
    elif type(value).__module__.startswith("transformers") and hasattr(value, "__dict__"):
        _collect(vars(value), tensors, seen)


def _shapes(state: dict[str, Any]) -> dict[int, LayerShape]:
    """`keys [1, heads, tokens, dim]` of the layers of transformers' `Cache`."""
    layers = getattr(state.get("past_key_values"), "layers", [])
    return {
        index: LayerShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3])
        for index, layer in enumerate(layers)
        if isinstance(getattr(layer, "keys", None), torch.Tensor) and layer.keys.ndim == 4
    }
