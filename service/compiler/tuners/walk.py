"""Where peft has put something in place of the base's own modules."""

from collections.abc import Iterator

import torch

from service.compiler.tuners.base import PeftBase


def replaced_modules(base: PeftBase) -> Iterator[tuple[str, torch.nn.Module]]:
    """(path, peft's module) of the outermost modules that the base did not have."""
    known = {id(module) for module in base.modules.values()}
    return _replaced(base.model, "", known)


def _replaced(
    module: torch.nn.Module, path: str, known: set[int]
) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, child in module.named_children():
        child_path = f"{path}.{name}" if path else name
        if id(child) in known:
            yield from _replaced(child, child_path, known)
        else:
            yield child_path, child
