"""Approximates an upload of another kind by a LoRA, and measures what that costs
(peft `tuners/lora/conversion.py`: the truncated SVD of each weight's change)."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModelForCausalLM
from peft.tuners.lora import convert_to_lora
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import set_peft_model_state_dict
from safetensors.torch import save_file

from service.adapters.files import CONFIG, READ_FILES, VERSION_FILES, WEIGHTS
from service.adapters.manifest import Conversion
from service.compiler.job import Job, Result
from service.compiler.refusals import Refusals
from service.compiler.tuners.base import PREFIX, PeftBase
from service.compiler.tuners.kinds.registry import ADAPTER
from service.compiler.tuners.load import load_upload
from service.compiler.tuners.probe_prompts import logits_of, probe_prompts
from service.compiler.tuners.read import read_folder

Tensors = dict[str, torch.Tensor]


def run_conversion(base: PeftBase, job: Job) -> Result:
    """Raises `AdapterRefused`. Changes `base`: run it in a fork."""
    source, refusals = Path(job.source), Refusals(job.limits.max_refusals)
    upload = read_folder(source)
    loaded = load_upload(upload, base, job.base.dtype, job.limits, refusals)
    model: Any = loaded.model
    try:
        config, tensors = convert_to_lora(model, job.convert_rank, ADAPTER)
    except (TypeError, ValueError) as error:
        refusals.add("cannot_convert", "convert", f"peft cannot convert it to LoRA: {error}")
        refusals.raise_if_any()
        raise
    errors = _module_errors(model, tensors)
    prompts = [prompt for prompt, _ in probe_prompts(upload.config, job.base.vocab_size, 1 << 20)]
    original = [torch.from_numpy(logits_of(model, prompt)) for prompt in prompts]
    converted: Any = PeftModelForCausalLM(model.unload(), config)
    set_peft_model_state_dict(converted, tensors)
    converted.eval()
    found = [torch.from_numpy(logits_of(converted, prompt)) for prompt in prompts]
    folder = _write(job, config, tensors)
    conversion = Conversion(
        kind=upload.config["peft_type"].lower(),
        rank=job.convert_rank,
        module_errors=errors,
        mean_kl=_mean_kl(torch.cat(original), torch.cat(found)),
    )
    return Result(folder=str(folder), conversion=conversion)


def _module_errors(model: torch.nn.Module, tensors: Tensors) -> tuple[tuple[str, float], ...]:
    errors = []
    for name, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        wanted: torch.Tensor = layer.get_delta_weight(ADAPTER).float()  # type: ignore[attr-defined]
        product = (
            tensors[f"{name}.lora_B.weight"].float() @ tensors[f"{name}.lora_A.weight"].float()
        )
        if product.shape != wanted.shape:
            product = product.T
        norm = torch.linalg.norm(wanted).clamp(min=torch.finfo(torch.float32).tiny)
        error = (torch.linalg.norm(wanted - product) / norm).item()
        errors.append((name.removeprefix(PREFIX), error))
    return tuple(errors)


def _mean_kl(original: torch.Tensor, converted: torch.Tensor) -> float:
    """`[positions, vocab]` logits both."""
    p, q = original.log_softmax(-1), converted.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


def _write(job: Job, config: Any, tensors: Tensors) -> Path:
    """A PEFT folder as `save_pretrained` makes it, with the other files of the upload."""
    source, folder = Path(job.source), Path(job.work) / "converted"
    folder.mkdir()
    for path in source.iterdir():
        if path.name in READ_FILES and path.name not in VERSION_FILES:
            shutil.copyfile(path, folder / path.name)
    config.task_type, config.inference_mode = "CAUSAL_LM", True
    config.save_pretrained(folder)
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / WEIGHTS)
    assert (folder / CONFIG).is_file()
    return folder
