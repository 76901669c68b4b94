"""A kernel, and bases small enough to be made for a test."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from service.model.kernels import ElementwiseKernel
from tests.contract.architectures import ARCHITECTURES
from tests.model.native.library import native_of


def kernel_of(dtype: torch.dtype) -> ElementwiseKernel:
    elementwise = native_of(dtype).elementwise
    assert elementwise is not None
    return elementwise


def base_of(architecture: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    config = ARCHITECTURES[architecture].make_config()
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)
