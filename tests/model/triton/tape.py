"""A captured graph without a GPU: the operations of one run, repeated on the very same tensors.

As with a graph, nothing of Python runs again, and every result lies where it lay at first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from service.model.kernels import AttentionKernel, TermKernel

_tapes: list["Tape"] = []


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Callable[[], None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.append(lambda: _repeat(func, args, kwargs or {}, out))
        return out


def _repeat(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    again = tree_leaves(func(*args, **kwargs))
    for before, now in zip(tree_leaves(out), again, strict=True):
        if isinstance(before, torch.Tensor) and before.data_ptr() != now.data_ptr():
            before.copy_(now)


def capture(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    run()
    tape = Tape()
    _tapes.append(tape)
    with tape:
        out = run()
    _tapes.pop()

    @torch.inference_mode()
    def replay() -> torch.Tensor:
        for operation in tape.operations:
            operation()
        return out

    return replay


def make_recorded(kernel: TermKernel | AttentionKernel, name: str) -> None:
    """A kernel launch is one operation."""
    launch = getattr(kernel, name)

    def recorded(*args: Any, **kwargs: Any) -> None:
        if not _tapes:
            return launch(*args, **kwargs)
        with torch.utils._python_dispatch._disable_current_modes():
            launch(*args, **kwargs)
        _tapes[-1].operations.append(lambda: launch(*args, **kwargs))
        return None

    setattr(kernel, name, recorded)
