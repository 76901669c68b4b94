"""What stands in front of the prompt: virtual tokens, or keys and values, as peft computes them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.utils import PeftType
from peft.utils.other import _prepare_prompt_learning_config
from transformers import PreTrainedModel

from service.base import BaseDescription
from service.compiler.refusals import Refusals
from service.compiler.terms import FrontTokens
from service.operator.tables import prefix_name

_SIZES = ("num_layers", "token_dim", "num_attention_heads", "num_transformer_submodules")
"""In the order in which peft looks for them."""
_PREFIX_KINDS = frozenset({PeftType.PREFIX_TUNING, PeftType.CARTRIDGE})


@dataclass(frozen=True, slots=True)
class Front:
    tokens: FrontTokens
    embeddings: torch.Tensor | None = None
    """`[tasks * n, width]`"""
    tables: dict[str, torch.Tensor] = field(default_factory=dict)


def check_sizes(config: Any, model: PreTrainedModel, refusals: Refusals) -> None:
    """What peft would fill in from the base has to be what the config says."""
    given, wanted = _completed(config, model), _of_base(config, model)
    if isinstance(given, str) or isinstance(wanted, str):
        message = f"peft cannot build it: {given if isinstance(given, str) else wanted}"
        refusals.add("peft_rejects", "adapter_config.json", message)
        return
    for name in _SIZES:
        have, want = getattr(given, name), getattr(wanted, name)
        if have != want:
            message = f"The config field {name!r} is {have}, this base needs {want}."
            refusals.add("invalid_field", name, message)


def _of_base(config: Any, model: PreTrainedModel) -> Any:
    """`config` with the sizes that peft finds in the base's config. Not every base says all of them
    in words that peft knows; those can only be given."""
    unsaid = copy.copy(config)
    for name in _SIZES:
        setattr(unsaid, name, None)
    completed = _completed(unsaid, model)
    for name in _SIZES:
        if isinstance(completed, str) and f"`{name}`" in completed:
            setattr(unsaid, name, getattr(config, name))
            completed = _completed(unsaid, model)
    return completed


def _completed(config: Any, model: PreTrainedModel) -> Any:
    """The config as peft completes it for this base; a text is peft's reason why it cannot."""
    completed = copy.copy(config)
    try:
        _prepare_prompt_learning_config(completed, model.config)  # type: ignore[no-untyped-call]
    except ValueError as error:
        return str(error)
    if completed.num_transformer_submodules is None:
        completed.num_transformer_submodules = 1
    return completed


def read_prompt(model: Any, config: PeftConfig) -> Front:
    if config.peft_type in _PREFIX_KINDS:
        return _read_prefix(model)
    num_tasks = (
        getattr(config, "num_tasks", 0)
        if config.peft_type is PeftType.MULTITASK_PROMPT_TUNING
        else 0
    )
    tasks = range(num_tasks) if num_tasks else (None,)
    prompts = [model.get_prompt(1, task_ids=_task_ids(task))[0] for task in tasks]
    tokens = FrontTokens(num_virtual=len(prompts[0]), num_tasks=num_tasks)
    return Front(tokens, torch.cat(prompts).detach())


def prefix_problem(front: Front, base: BaseDescription) -> str | None:
    """Why the base cannot take the keys and values that peft makes; peft itself fails on them."""
    wanted = {
        prefix_name(one.layer, part): (front.tokens.num_prefix, one.num_heads, dim)
        for one in base.kv_layers
        for part, dim in (("key", one.key_dim), ("value", one.value_dim))
    }
    found = {name: tuple(tensor.shape) for name, tensor in front.tables.items()}
    if not found or found == wanted:
        return None
    return (
        "The learned keys and values do not have the heads and layers of the base's attention "
        f"({_shapes(found)} where the base keeps {_shapes(wanted)})."
    )


def _shapes(tables: Mapping[str, tuple[int, ...]]) -> str:
    shapes = sorted({f"{heads} heads of {dim}" for _, heads, dim in tables.values()})
    return f"{len(tables) // 2} layers of {', '.join(shapes)}" if tables else "none"


def _task_ids(task: int | None) -> torch.Tensor | None:
    return None if task is None else torch.tensor([task])


def _read_prefix(model: Any) -> Front:
    """From the cache that peft hands to the model: `[1, heads, m, dim]` per layer."""
    tables: dict[str, torch.Tensor] = {}
    count: int = model.active_peft_config.num_virtual_tokens
    for number, layer in enumerate(model.get_prompt(1).layers):
        tables[prefix_name(number, "key")] = _placed(layer.keys, count)
        tables[prefix_name(number, "value")] = _placed(layer.values, count)
    return Front(FrontTokens(num_prefix=count), tables=tables)


def _placed(kept: torch.Tensor, count: int) -> torch.Tensor:
    """`[count, heads, dim]`, each at its own position. The cache of a sliding layer keeps the last
    ones, those that some row can see; what stands before them is never looked at."""
    rows = kept[0].transpose(0, 1).detach()
    return torch.cat([rows.new_zeros(count - len(rows), *rows.shape[1:]), rows])
