"""peft on a base that transformers rounds to 8 or 4 bits, by none of the service's own lines."""

import copy
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from tests.contract.kind_variants import perturb

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@lru_cache(maxsize=2)
def _loaded(base: Path, quantization: str, dtype: str) -> PreTrainedModel:
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    if quantization != "int8":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=getattr(torch, dtype),
        quantization_config=config,
        device_map={"": "cpu"},
        attn_implementation="eager",
    ).eval()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # Fails at these widths, where there is one.
    return model


def load_rounded(base: Path, quantization: str, dtype: str = "float32") -> PreTrainedModel:
    return copy.deepcopy(_loaded(base, quantization, dtype))


def train(
    base: Path, quantization: str, peft_type: str, folder: Path, spread: float = 0.1, **fields: Any
) -> Path:
    """An adapter as QLoRA makes one: on the rounded base, moved away from its start."""
    torch.manual_seed(1)
    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type](task_type="CAUSAL_LM", **fields)
    model = get_peft_model(load_rounded(base, quantization), config)
    perturb(model, spread)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def solo_logits(
    base: Path, quantization: str, folder: Path | None, token_ids: list[int], task: int | None
) -> torch.Tensor:
    """`[T, vocab]` without the rows of virtual tokens. A model of its own each time: peft's DoRA
    in 8 bits runs only once on a processor."""
    model: Any = load_rounded(base, quantization)
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder).eval()
    ids = torch.tensor([token_ids])
    tasks = {} if task is None else {"task_ids": torch.tensor([task])}
    logits: torch.Tensor = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), **tasks
    ).logits[0]
    return logits[-len(token_ids) :]
