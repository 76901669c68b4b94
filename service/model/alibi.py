"""BLOOM's attention through transformers' attention interface, which its own code does not use.

ALiBi adds `slope * position of the key` to a head's scores (arXiv 2108.12409; the same for all
queries, since a softmax does not see what is added to a whole row). Everything else is done by the
module's own parts: projections, split into heads, residual (transformers `BloomAttention`).
"""

import inspect
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_PARTS = ("query_key_value", "dense", "_reshape", "num_heads", "inv_norm_factor", "layer_idx")


def use_interface(model: PreTrainedModel) -> None:
    """Once per model; whether the result is the same, the self-test of the lane finds out."""
    replaced = [module for module in model.modules() if _is_replaceable(module)]
    for module in replaced:
        slopes = _slopes(model, int(module.num_heads))  # type: ignore[arg-type]
        module.forward = partial(_forward, module, model.config, slopes)
    if replaced:
        # transformers reads the class's source to decide it, which says no.
        model._can_set_attn_implementation = lambda: True  # type: ignore[method-assign]


def _is_replaceable(module: torch.nn.Module) -> bool:
    if not all(hasattr(module, name) for name in _PARTS):
        return False
    names = inspect.signature(module.forward).parameters
    is_sliced = getattr(module, "pretraining_tp", 1) > 1 and getattr(
        module, "slow_but_exact", False
    )
    return {"residual", "alibi", "layer_past"} <= names.keys() and not is_sliced


def _slopes(model: PreTrainedModel, num_heads: int) -> torch.Tensor:
    """`[heads]` float32: what the model's own code adds at position 1."""
    builder = next(one for one in model.modules() if hasattr(one, "build_alibi_tensor"))
    mask = torch.ones(1, 2, dtype=torch.long, device=model.device)
    alibi: torch.Tensor = builder.build_alibi_tensor(mask, num_heads, torch.float32)  # type: ignore[operator]
    return alibi.view(num_heads, 2)[:, 1]


def _forward(
    module: Any,
    config: Any,
    slopes: torch.Tensor,
    hidden_states: torch.Tensor,
    residual: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`hidden_states [1, T, h]`; the mask and the bias that the model has built are not needed."""
    query, key, value = module._reshape(module.query_key_value(hidden_states))
    attend = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]
    out, _ = attend(
        module,
        query,
        key,
        value,
        attention_mask=None,
        scaling=module.inv_norm_factor,
        alibi_slopes=slopes,
    )
    return residual + module.dense(out.flatten(2)), None
