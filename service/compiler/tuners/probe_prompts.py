"""A few prompts on which an adapter is compared, and the logits that a model gives for them."""

import inspect
import random
from collections.abc import Iterator
from typing import Any

import torch

_LENGTHS = (5, 14, 23)
_MAX_TASKS = 3


@torch.inference_mode()
def logits_of(model: torch.nn.Module, prompt: list[int], **extra: Any) -> Any:
    """`[len(prompt), vocab]` float32; rows of virtual tokens come first and are left out."""
    ids = torch.tensor([prompt])
    if "use_cache" in inspect.signature(model.forward).parameters:
        extra["use_cache"] = False
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra)
    return output.logits[0, -len(prompt) :].float().numpy()


def probe_prompts(
    config: dict[str, Any], vocab_size: int, max_len: int
) -> Iterator[tuple[list[int], int]]:
    """(token ids, task) pairs. What only some tokens trigger is in them; the same every time."""
    draw = random.Random(0)
    special = _special_tokens(config)
    room = max_len - (config.get("num_virtual_tokens") or 0) - 1
    for task in range(min(num_tasks(config), _MAX_TASKS) or 1):
        for length in _LENGTHS:
            prompt = [draw.randrange(vocab_size) for _ in range(length)]
            if length > _LENGTHS[0]:
                prompt[2 : 2 + len(special)] = special
            yield prompt[: max(1, room)], task


def _special_tokens(config: dict[str, Any]) -> list[int]:
    """Ids that the adapter treats differently, in the order that matters to aLoRA."""
    invocation = config.get("alora_invocation_tokens") or []
    trained = config.get("trainable_token_indices") or config.get("token_indices") or []
    if isinstance(trained, dict):
        trained = [one for many in trained.values() for one in many]
    return [*invocation, *trained[:4]][:8]


def num_tasks(config: dict[str, Any]) -> int:
    """0 = the adapter has no tasks."""
    match config["peft_type"]:
        case "MULTITASK_PROMPT_TUNING":
            return int(config.get("num_tasks") or 0)
        case "POLY":
            return int(config.get("n_tasks") or 0)
    return 0
