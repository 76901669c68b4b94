"""Norms by the root of the mean square, each in one pass.

Which modules are such norms, and which form theirs has, is tried: nothing is known of their
classes.
"""

import copy
import inspect

import torch

from service.model.elementwise_twin import NORM_FORMS, draw, is_same
from service.model.fused.replacing import replace_forwards
from service.model.kernels import ElementwiseKernel, NormKernel

_ROWS = 16


class FusedNorm:
    """`forward` of a norm."""

    def __init__(self, module: torch.nn.Module, kernel: NormKernel) -> None:
        self._own = module.forward
        self._kernel = kernel

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._kernel.takes(x):
            return self._kernel(x)
        result: torch.Tensor = self._own(x)
        return result


def fuse_norms(model: torch.nn.Module, kernel: ElementwiseKernel) -> int:
    """How many there are."""
    return replace_forwards(model, lambda module: _fused(module, kernel))


def _fused(module: torch.nn.Module, kernel: ElementwiseKernel) -> FusedNorm | None:
    parts = _parts(module)
    if parts is None:
        return None
    weight, eps = parts
    if weight.dtype != kernel.dtype:
        return None
    generator = torch.Generator().manual_seed(0)
    x = draw(1, _ROWS, len(weight), dtype=kernel.dtype, generator=generator)
    # Weights of one would hide how they are used.
    other = torch.randn(len(weight), generator=generator).to(kernel.dtype)
    try:
        expected = _with_weight(module, other)(x)
    except Exception:  # whatever it is, it is no norm of a row
        return None
    for form in NORM_FORMS:
        if is_same(kernel.norm(other, eps, form)(x), expected):
            return FusedNorm(module, kernel.norm(weight, eps, form))
    return None


def _parts(module: torch.nn.Module) -> tuple[torch.Tensor, float] | None:
    """Weight and epsilon, of a module that has nothing else that could matter."""
    if any(module.children()) or "forward" in vars(module):
        return None
    tensors = [*module.parameters(), *module.buffers()]
    numbers = [value for value in vars(module).values() if isinstance(value, float)]
    arguments = inspect.signature(module.forward).parameters
    if len(tensors) != 1 or tensors[0].ndim != 1 or len(numbers) != 1 or len(arguments) != 1:
        return None
    return tensors[0], numbers[0]


def _with_weight(module: torch.nn.Module, weight: torch.Tensor) -> torch.nn.Module:
    other = copy.copy(module)
    (name,) = dict(module.named_parameters())
    other._parameters = {name: torch.nn.Parameter(weight, requires_grad=False)}
    return other
