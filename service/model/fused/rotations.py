"""Rotary embeddings of queries and keys, in one pass.

Attention modules call a function of the file that they are written in. Other models of the process
call it too, so it stays what it is: a module that turns its heads so gets a `forward` of its own,
transformers' code with another function under that name.
"""

from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from types import FunctionType, MethodType
from typing import Any

import torch

from service.model.elementwise_twin import draw, is_same
from service.model.fused.replacing import replace_forwards
from service.model.kernels import ElementwiseKernel

_ARGUMENTS = ["q", "k", "cos", "sin"]
"""transformers calls them so everywhere."""
_SIZE = 16

Rotation = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class FusedRotation:
    """In place of a model's `apply_rotary_pos_emb`."""

    def __init__(self, own: Rotation, kernel: ElementwiseKernel) -> None:
        self._own = own
        self._kernel = kernel

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        *args: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not args and not options and self._kernel.takes_heads(q, k, cos, sin):
            return self._kernel.rotated(q, k, cos, sin)
        return self._own(q, k, cos, sin, *args, **options)


def fuse_rotations(model: torch.nn.Module, kernel: ElementwiseKernel) -> int:
    """How many modules turn their heads."""

    @lru_cache
    def fused(forward: FunctionType) -> FunctionType | None:
        names = [name for name in forward.__code__.co_names if _is_rotation(forward, name, kernel)]
        if not names:
            return None
        functions = {name: FusedRotation(forward.__globals__[name], kernel) for name in names}
        return _with_globals(forward, functions)

    def bound(module: torch.nn.Module) -> MethodType | None:
        own = type(module).forward
        if not isinstance(own, FunctionType) or "forward" in vars(module):
            return None
        one = fused(own)
        return None if one is None else MethodType(one, module)

    return replace_forwards(model, bound)


def _is_rotation(forward: FunctionType, name: str, kernel: ElementwiseKernel) -> bool:
    function = forward.__globals__.get(name)
    if not isinstance(function, FunctionType):
        return False
    if list(signature(function).parameters)[: len(_ARGUMENTS)] != _ARGUMENTS:
        return False
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int) -> torch.Tensor:
        return draw(*shape, dtype=kernel.dtype, generator=generator)

    query, key = make(2, 5, 3, _SIZE).transpose(1, 2), make(2, 5, 2, _SIZE).transpose(1, 2)
    # Models have two equal halves of them; others show which half meets which number.
    cos, sin = make(2, 5, _SIZE), make(2, 5, _SIZE)
    try:
        expected = function(query, key, cos, sin)
        pairs = list(zip(kernel.rotated(query, key, cos, sin), expected, strict=True))
    except Exception:  # whatever it is, it is no such rotation
        return False
    return all(is_same(found, one) for found, one in pairs)


def _with_globals(function: FunctionType, others: dict[str, Any]) -> FunctionType:
    changed = FunctionType(
        function.__code__,
        {**function.__globals__, **others},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    changed.__kwdefaults__ = function.__kwdefaults__
    return changed
