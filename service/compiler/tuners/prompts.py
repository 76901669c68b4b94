"""What stands in front of the prompt: virtual tokens, or keys and values, as peft computes them."""

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.utils import PeftType

from service.compiler.terms import FrontTokens
from service.operator.tables import prefix_name

_PREFIX_KINDS = frozenset({PeftType.PREFIX_TUNING, PeftType.CARTRIDGE})


@dataclass(frozen=True, slots=True)
class Front:
    tokens: FrontTokens
    embeddings: torch.Tensor | None = None
    """`[tasks * n, width]`"""
    tables: dict[str, torch.Tensor] = field(default_factory=dict)


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


def _task_ids(task: int | None) -> torch.Tensor | None:
    return None if task is None else torch.tensor([task])


def _read_prefix(model: Any) -> Front:
    """From the cache that peft hands to the model: `[1, heads, n, dim]` per layer."""
    tables: dict[str, torch.Tensor] = {}
    count = 0
    for number, layer in enumerate(model.get_prompt(1).layers):
        count = layer.keys.shape[2]
        tables[prefix_name(number, "key")] = layer.keys[0].transpose(0, 1).detach()
        tables[prefix_name(number, "value")] = layer.values[0].transpose(0, 1).detach()
    return Front(FrontTokens(num_prefix=count), tables=tables)
