"""Gated feed-forward modules, `down(silu(gate(x)) * up(x))`, with the middle in one pass.

Which of a module's parts is which, and whether it does just that, is tried on parts that return
numbers of ours. Every part is called as the module calls it, so those that are sites stay sites.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from service.model.elementwise_twin import draw, gated, is_same
from service.model.fused.replacing import replace_forwards
from service.model.kernels import ElementwiseKernel

_ROWS, _SIZE = 16, 68

Gate = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Of the module's input: what is activated, and what that is multiplied by."""


class FusedGate:
    """`forward` of such a module."""

    def __init__(self, gate: Gate, down: torch.nn.Module, kernel: ElementwiseKernel) -> None:
        self._gate, self._down = gate, down
        self._kernel = kernel

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self._gate(x)
        compute = self._kernel.gated if self._kernel.takes_gate(gate, up) else gated
        result: torch.Tensor = self._down(compute(gate, up))
        return result


@dataclass(frozen=True, slots=True)
class TwoParts:
    gate: torch.nn.Module
    up: torch.nn.Module

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gate(x), self.up(x)


@dataclass(frozen=True, slots=True)
class Halves:
    """Of one part's output."""

    both: torch.nn.Module
    is_swapped: bool

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = self.both(x).chunk(2, dim=-1)
        return (second, first) if self.is_swapped else (first, second)


def fuse_gates(model: torch.nn.Module, kernel: ElementwiseKernel) -> int:
    """How many there are."""
    return replace_forwards(model, lambda module: _fused(module, kernel))


def _fused(module: torch.nn.Module, kernel: ElementwiseKernel) -> FusedGate | None:
    names = [name for name, part in module.named_children() if isinstance(part, torch.nn.Linear)]
    if len(names) not in (2, 3) or not _is_plain(module, names):
        return None
    generator = torch.Generator().manual_seed(0)
    x, *outputs = (draw(1, _ROWS, _SIZE, dtype=kernel.dtype, generator=generator) for _ in range(4))
    calls: list[_Call] = []
    parts = {name: _Part(name, output, calls) for name, output in zip(names, outputs, strict=False)}
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}
    try:
        result = other(x)
    except Exception:  # whatever it is, it is not what is looked for
        return None
    if sorted(one.name for one in calls) != sorted(names):
        return None
    *first, last = calls
    if result is not parts[last.name].output or any(one.x is not x for one in first):
        return None
    tried = _gates([parts[one.name] for one in first])
    found = _gates([module.get_submodule(one.name) for one in first])
    for gate, real in zip(tried, found, strict=True):
        if is_same(kernel.gated(*gate(x)), last.x):
            return FusedGate(real, module.get_submodule(last.name), kernel)
    return None


def _is_plain(module: torch.nn.Module, names: list[str]) -> bool:
    """Nothing but the parts `names` has numbers of its own, and the input is all there is."""
    paths = [path for path, _ in (*module.named_parameters(), *module.named_buffers())]
    return (
        all(path.split(".")[0] in names for path in paths)
        and "forward" not in vars(module)
        and len(inspect.signature(module.forward).parameters) == 1
    )


def _gates(parts: list[torch.nn.Module]) -> list[Gate]:
    """All that it can be."""
    if len(parts) == 1:
        return [Halves(parts[0], is_swapped) for is_swapped in (False, True)]
    first, second = parts
    return [TwoParts(first, second), TwoParts(second, first)]


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    x: torch.Tensor


class _Part(torch.nn.Module):
    """Stands for a linear module."""

    def __init__(self, name: str, output: torch.Tensor, calls: list[_Call]) -> None:
        super().__init__()
        self.name, self.output, self.calls = name, output, calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(_Call(self.name, x))
        return self.output
