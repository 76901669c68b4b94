"""The slow, independent path: what peft itself computes for an adapter on a few prompts.

Runs on folders that have passed every check of a compile. In float32 where float32 is served, else
in the dtype of the base's files: there the base alone shows how far rounding goes.
"""

import inspect
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.adapters.files import CONFIG, WEIGHTS
from service.adapters.safetensors_header import read_tensor_infos, strict_json
from service.compiler.arrays import MappedFile
from service.compiler.job import Job, Result
from service.compiler.refusals import Refusals
from service.compiler.tuners.base import PeftBase
from service.compiler.tuners.load import load_upload
from service.compiler.upload import Upload

_LENGTHS = (5, 14, 23)
_MAX_TASKS = 3


def run_reference(base: PeftBase, job: Job) -> Result:
    """Raises `AdapterRefused`. Changes `base`: run it in a fork."""
    folder, refusals = Path(job.source), Refusals(job.limits.max_refusals)
    config = strict_json((folder / CONFIG).read_bytes())
    weights = folder / WEIGHTS
    upload = Upload(config, read_tensor_infos(weights), MappedFile(weights))
    if job.base.dtype == "float32":
        torch.nn.Module.float(base.model)
    prompts = list(_prompts(config, job.base.vocab_size, job.base.max_model_len))
    arrays: dict[str, Any] = {}
    for number, (prompt, task) in enumerate(prompts):
        arrays[f"prompt_{number}"] = np.array(prompt, dtype=np.int64)
        arrays[f"task_{number}"] = np.array(task)
        arrays[f"base_{number}"] = _logits(base.model, prompt)
    model = load_upload(upload, base, job.base.dtype, job.limits, refusals).model
    for number, (prompt, task) in enumerate(prompts):
        extra = {"task_ids": torch.tensor([task])} if _num_tasks(config) else {}
        arrays[f"adapter_{number}"] = _logits(model, prompt, **extra)
    path = Path(job.work) / "reference.npz"
    with path.open("xb") as file:
        np.savez(file, **arrays)
    return Result(reference=str(path))


@torch.inference_mode()
def _logits(model: torch.nn.Module, prompt: list[int], **extra: Any) -> Any:
    """`[len(prompt), vocab]` float32; rows of virtual tokens come first and are left out."""
    ids = torch.tensor([prompt])
    if "use_cache" in inspect.signature(model.forward).parameters:
        extra["use_cache"] = False
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra)
    return output.logits[0, -len(prompt) :].float().numpy()


def _prompts(
    config: dict[str, Any], vocab_size: int, max_len: int
) -> Iterator[tuple[list[int], int]]:
    """(token ids, task) pairs. What only some tokens trigger is in them; the same every time."""
    draw = random.Random(0)
    special = _special_tokens(config)
    room = max_len - (config.get("num_virtual_tokens") or 0) - 1
    for task in range(min(_num_tasks(config), _MAX_TASKS) or 1):
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


def _num_tasks(config: dict[str, Any]) -> int:
    return int(config.get("num_tasks") or 0) if "MULTITASK" in config["peft_type"] else 0
