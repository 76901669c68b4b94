"""PEFT folders made by peft itself, with every tensor moved away from its neutral start."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.adapters.tiny_base import TinyBase


def make_lora(base: TinyBase, folder: Path, *, seed: int = 1, **fields: Any) -> Path:
    """Save an adapter whose every part has a visible effect."""
    fields = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **fields}
    torch.manual_seed(seed)
    model = get_peft_model(base.fresh_model(), LoraConfig(task_type="CAUSAL_LM", **fields))
    perturb(model, seed)
    model.save_pretrained(folder)
    return folder


def perturb(model: PeftModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_bias = name.endswith(".bias") and parameter.requires_grad
            if "lora_" in name or is_bias:
                noise = torch.randn(parameter.shape, generator=generator)
                spread = 0.3 if "magnitude" in name else 0.2
                parameter.add_(noise * spread)


def peft_logits(base: TinyBase, folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = PeftModel.from_pretrained(base.fresh_model(), folder).eval()
    with torch.no_grad():
        return model(ids).logits
