"""peft's own layer as plain JSON and a list of tensors, and back.

For kinds that have no terms: the layer that peft builds when it loads an adapter is taken apart
when a version is compiled, and put together again from the compiled form when it is served, without
running a constructor and without pickle. Only classes of peft's tuners and of `torch.nn` are
accepted, in both directions, so the compiled form cannot name any other code.
"""

import enum
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

_ALLOWED = ("peft.tuners.", "peft.utils.quantization_utils", "torch.nn.modules.")
_INTERNAL = frozenset(torch.nn.Module().__dict__)
"""Attributes that every module has: hooks, tables of parameters and the like."""
_MAX_DEPTH = 32


class UnknownPart(Exception):
    """A layer holds something that cannot be written down. Its text names it."""


class Snapshot:
    """Collects the tensors of one layer; a tensor that occurs twice is kept once."""

    def __init__(self, base_paths: dict[int, str]) -> None:
        """`base_paths`: path by `id()` of every module of the base, which is never written down."""
        self._base_paths = base_paths
        self.tensors: list[torch.Tensor] = []
        self._places: dict[int, int] = {}

    def take(self, layer: torch.nn.Module) -> Any:
        """Raises `UnknownPart`."""
        return self._encode(layer, 0)

    def _encode(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise UnknownPart("a structure that is too deep")
        if isinstance(value, enum.Enum):
            value = value.value
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, torch.Tensor):
            return {"tensor": self._place(value)}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": None}
        if isinstance(value, list | tuple | set | frozenset):
            kind = "list" if isinstance(value, list) else "tuple"
            # Hooks on gradients stay behind.
            kept = [one for one in value if not isinstance(one, RemovableHandle)]
            return {kind: [self._encode(one, depth + 1) for one in kept]}
        if isinstance(value, dict):
            pairs = [
                [self._encode(k, depth + 1), self._encode(v, depth + 1)] for k, v in value.items()
            ]
            return {"dict": pairs}
        if isinstance(value, torch.nn.Module):
            return self._encode_module(value, depth)
        return self._encode_object(value, depth)

    def _encode_module(self, module: torch.nn.Module, depth: int) -> Any:
        if id(module) in self._base_paths:
            return {"base": self._base_paths[id(module)]}
        own = {name: one for name, one in module.__dict__.items() if name not in _INTERNAL}
        return {
            "module": class_name(type(module)),
            "attributes": self._named(own, depth),
            "parameters": self._named(module._parameters, depth),
            "buffers": self._named(module._buffers, depth),
            "modules": self._named(module._modules, depth),
        }

    def _encode_object(self, value: Any, depth: int) -> Any:
        attributes = getattr(value, "__dict__", {})
        return {"object": class_name(type(value)), "attributes": self._named(attributes, depth)}

    def _named(self, values: dict[str, Any], depth: int) -> dict[str, Any]:
        return {name: self._encode(one, depth + 1) for name, one in values.items()}

    def _place(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self._places:
            self._places[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return self._places[id(tensor)]


def class_name(cls: type) -> str:
    if not cls.__module__.startswith(_ALLOWED):
        raise UnknownPart(f"an object of {cls.__module__}.{cls.__qualname__}")
    return f"{cls.__module__}:{cls.__qualname__}"


def restore(
    layer: Any, tensors: list[torch.Tensor], base_module: Callable[[str], torch.nn.Module]
) -> torch.nn.Module:
    """The layer on `tensors` as they are. Raises `UnknownPart` for anything not allowed."""
    module = _decode(layer, tensors, base_module)
    if not isinstance(module, torch.nn.Module):
        raise UnknownPart("something that is no layer")
    return module.eval()


def _decode(
    node: Any, tensors: list[torch.Tensor], base_module: Callable[[str], torch.nn.Module]
) -> Any:
    if not isinstance(node, dict):
        return node
    match next(iter(node)):
        case "tensor":
            return tensors[node["tensor"]]
        case "dtype":
            return _dtype(node["dtype"])
        case "list" | "tuple" as kind:
            values = [_decode(one, tensors, base_module) for one in node[kind]]
            return values if kind == "list" else tuple(values)
        case "dict":
            decoded = (
                [_decode(one, tensors, base_module) for one in pair] for pair in node["dict"]
            )
            return dict(decoded)
        case "device":
            return tensors[0].device if tensors else torch.device("cpu")
        case "base":
            return base_module(node["base"])
    attributes = dict(_decoded(node["attributes"], tensors, base_module))
    if "object" in node:
        plain = object.__new__(_class(node["object"]))
        plain.__dict__.update(attributes)
        return plain
    module: torch.nn.Module = object.__new__(_class(node["module"]))
    torch.nn.Module.__init__(module)
    module.__dict__.update(attributes)
    for name, value in _decoded(node["parameters"], tensors, base_module):
        module._parameters[name] = (
            None if value is None else torch.nn.Parameter(value, requires_grad=False)
        )
    module._buffers.update(_decoded(node["buffers"], tensors, base_module))
    module._modules.update(_decoded(node["modules"], tensors, base_module))
    return module


def _decoded(
    named: dict[str, Any],
    tensors: list[torch.Tensor],
    base_module: Callable[[str], torch.nn.Module],
) -> Iterator[tuple[str, Any]]:
    for name, value in named.items():
        yield name, _decode(value, tensors, base_module)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UnknownPart(f"the dtype {name}")
    return dtype


def _class(name: str) -> Any:
    module, _, qualified = name.partition(":")
    if not module.startswith(_ALLOWED) or "." in qualified:
        raise UnknownPart(f"the class {name}")
    cls = getattr(importlib.import_module(module), qualified)
    if not isinstance(cls, type) or cls.__module__ != module:
        raise UnknownPart(f"the class {name}")
    return cls
