"""Adaption prompt (LLaMA-Adapter): an attention of its own beside the layer's, in front of the
output projection (peft `tuners/adaption_prompt/layer.py`).

Its keys and values are what the base's projections make of the learned prompt, so they are computed
once. Grouped heads are repeated as peft does it, by the projection's shape.
"""

from typing import Any

import torch

from service.base import BaseDescription
from service.operator.tables import adaption_name
from service.quantized.modules import is_quantized, rounds_inputs


def read_tables(attention: Any) -> dict[str, torch.Tensor]:
    """Of one of peft's `AdaptedAttention`."""
    base = attention.model
    layer = int(base.layer_idx)
    return {
        adaption_name(layer, "key"): _heads(attention, base.k_proj),
        adaption_name(layer, "value"): _heads(attention, base.v_proj),
        adaption_name(layer, "gate"): attention.adaption_gate.detach().float(),
    }


def output_bias(attention: Any) -> torch.Tensor | None:
    """peft projects the second attention by itself, and so adds the projection's bias twice."""
    bias = attention.model.o_proj.bias
    return None if bias is None else bias.detach().float()


def problem(attention: Any, base: BaseDescription) -> str | None:
    """Why it cannot be served, for a module that is not the form above."""
    if base.lane != "ragged":
        return f"the base runs in the {base.lane} lane, with an attention that takes no second one"
    if rounds_inputs(getattr(attention.model, "o_proj", attention)):
        return "the projection of a sum is not the sum of projections where inputs are rounded"
    if not all(hasattr(attention.model, name) for name in ("k_proj", "v_proj", "o_proj")):
        return "peft adds its attention behind the output projection, which is not served"
    return None


def _heads(attention: Any, projection: Any) -> torch.Tensor:
    """`[heads, n, dim]`"""
    base, count = attention.model, attention.adapter_len
    group = base.k_proj.in_features // base.k_proj.out_features
    num_heads = base.config.num_attention_heads
    projected = _project(projection, attention.adaption_prompt[0])
    heads = projected.view(count, num_heads // group, base.head_dim).transpose(0, 1)
    return heads.repeat_interleave(group, 0)


def _project(projection: Any, prompt: torch.Tensor) -> torch.Tensor:
    """In float32, whatever the base's file holds."""
    if is_quantized(projection):
        result: torch.Tensor = projection(prompt.float())
        return result
    bias = None if projection.bias is None else projection.bias.float()
    return torch.nn.functional.linear(prompt.float(), projection.weight.float(), bias)
