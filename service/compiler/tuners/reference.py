"""The slow, independent path: what peft itself computes for an adapter on a few prompts.

Runs on folders that have passed every check of a compile. In float32 where float32 is served, else
in the dtype of the base's files: there the base alone shows how far rounding goes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.compiler.job import Job, Result
from service.compiler.refusals import Refusals
from service.compiler.tuners.base import PeftBase
from service.compiler.tuners.load import load_upload
from service.compiler.tuners.probe_prompts import logits_of, num_tasks, probe_prompts
from service.compiler.tuners.read import read_folder


def run_reference(base: PeftBase, job: Job) -> Result:
    """Raises `AdapterRefused`. Changes `base`: run it in a fork."""
    refusals = Refusals(job.limits.max_refusals)
    upload = read_folder(Path(job.source))
    config = upload.config
    if job.base.dtype == "float32" and not base.is_quantized:
        torch.nn.Module.float(base.model)
    prompts = list(probe_prompts(config, job.base.vocab_size, job.base.max_model_len))
    arrays: dict[str, Any] = {}
    for number, (prompt, task) in enumerate(prompts):
        arrays[f"prompt_{number}"] = np.array(prompt, dtype=np.int64)
        arrays[f"task_{number}"] = np.array(task)
        arrays[f"base_{number}"] = logits_of(base.model, prompt)
    model = load_upload(upload, base, job.base.dtype, job.limits, refusals).model
    for number, (prompt, task) in enumerate(prompts):
        extra = {"task_ids": torch.tensor([task])} if num_tasks(config) else {}
        try:
            arrays[f"adapter_{number}"] = logits_of(model, prompt, **extra)
        except Exception as error:
            message = f"peft itself cannot run the adapter on this base: {error}"
            refusals.add("peft_rejects", "adapter_model.safetensors", message)
            refusals.raise_if_any()
    path = Path(job.work) / "reference.npz"
    with path.open("xb") as file:
        np.savez(file, **arrays)
    return Result(reference=str(path))
