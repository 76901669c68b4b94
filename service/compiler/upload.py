"""An upload as the kinds see it: a parsed config and tensors by name."""

from dataclasses import dataclass
from typing import Any

from service.adapters.safetensors_header import TensorInfo
from service.compiler.arrays import Array, MappedFile


@dataclass(frozen=True, slots=True)
class Upload:
    config: dict[str, Any]
    infos: dict[str, TensorInfo]
    weights: MappedFile

    def view(self, name: str) -> Array:
        return self.weights.view(self.infos[name])
