"""Loads a base whose linear modules are in 8 or 4 bits, so that every row is computed by itself and
in the run dtype. The served model and peft's are loaded by the same lines."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from service.base import Quantization
from service.errors import ConfigurationError
from service.quantized.modules import is_quantized
from service.quantized.stored import quantization_config

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
"""It warns at every product of float32 rows in 8 bits."""

_log = logging.getLogger(__name__)


def load_quantized(
    folder: Path,
    quantization: Quantization,
    dtype: torch.dtype,
    device: torch.device,
    **options: Any,
) -> PreTrainedModel:
    """In evaluation mode. Two loads give the same bytes: rounding knows no chance.

    Raises `ConfigurationError` when the architecture cannot be served in so few bits.
    """
    stored = quantization_config(folder)
    if not stored:
        options["quantization_config"] = _config(quantization, dtype)
    elif quantization == "int8" and stored.get("llm_int8_threshold") != 0:
        _log.warning("the base's llm_int8_threshold is not used: it mixes the rows of a batch")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    )
    _steady(model, dtype)
    frozen: PreTrainedModel = model.requires_grad_(False).train(False)
    _check(frozen, quantization)
    return frozen


def _config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    fields: dict[str, Any] = {"load_in_8bit": True, "llm_int8_threshold": 0.0}
    if quantization != "int8":
        fields = {"load_in_4bit": True, "bnb_4bit_quant_type": quantization}
        fields["bnb_4bit_compute_dtype"] = dtype
    return BitsAndBytesConfig(**fields)  # type: ignore[no-untyped-call]


def _steady(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Undo what would make a row's result depend on other rows, or on the processor."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    from service.quantized.eight_bit import make_steady

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = dtype, True
            # A format of its own on some processors: it computes in bfloat16 whatever is asked,
            # rounds the scales, repacks the weight in place and fails at many widths.
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, Linear8bitLt):
            make_steady(module)


@torch.inference_mode()
def _check(model: PreTrainedModel, quantization: Quantization) -> None:
    kind = f"the architecture {model.config.model_type!r}"
    if not any(map(is_quantized, model.modules())):
        raise ConfigurationError(f"quantization: {kind} has no module that {quantization} rounds.")
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device))
    except Exception as error:
        raise ConfigurationError(
            f"quantization: {kind} does not run in {quantization} ({error})."
        ) from error
