"""The LoRA family: one adapter per way in which peft can be asked for it."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.contract.architectures import load_reference

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "all-linear": {"r": 8, "target_modules": ALL},
    "rslora": {"r": 16, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "patterns": {
        "r": 4,
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"up_proj": 2, r"layers\.1\.self_attn\.v_proj": 9},
        "alpha_pattern": {"q_proj": 3},
    },
    "one-layer": {"r": 3, "target_modules": ALL, "layers_to_transform": [1]},
    "lm-head": {"r": 4, "target_modules": ["v_proj", "lm_head"]},
    "lora-bias": {"r": 4, "target_modules": ["q_proj", "o_proj"], "lora_bias": True},
    "bias": {"r": 2, "target_modules": ["q_proj", "v_proj"], "bias": "lora_only"},
    "dora": {"r": 4, "use_dora": True, "target_modules": ALL},
    "dora-bias": {"r": 4, "use_dora": True, "bias": "lora_only", "target_modules": ["k_proj"]},
    "rank-1": {"r": 1, "target_modules": ["down_proj"], "lora_alpha": 4},
}


def few_variants(linears: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """For any architecture, by the names that it has for its linear modules."""
    return {
        "all-linear": {"r": 8, "target_modules": list(linears)},
        "rslora": {"r": 16, "use_rslora": True, "target_modules": [linears[0]]},
        "lm-head": {"r": 4, "target_modules": [linears[0], "lm_head"]},
        "lora-bias": {"r": 4, "target_modules": [linears[-1]], "lora_bias": True},
        "dora": {"r": 4, "use_dora": True, "target_modules": list(linears)},
    }


def make_adapter(
    base: Path,
    variant: str,
    folder: Path,
    seed: int = 1,
    variants: dict[str, dict[str, Any]] = VARIANTS,
) -> Path:
    """Every tensor is moved away from its neutral start, or the adapter would equal the base."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", **{"lora_alpha": 8} | variants[variant])
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(folder)
    return folder


class Oracle:
    """peft, solo, float32: the model that says what is right."""

    def __init__(self, base: Path, folder: Path | None) -> None:
        model = load_reference(base)
        self._model = (PeftModel.from_pretrained(model, folder) if folder else model).eval()

    @torch.no_grad()
    def logits(self, token_ids: list[int]) -> torch.Tensor:
        """`[T, vocab]`"""
        return self._model(torch.tensor([token_ids]), use_cache=False).logits[0]
