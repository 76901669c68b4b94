"""The base model as peft sees it: mapped from its files, in their own dtype, never served; one that
is served in 8 or 4 bits is rounded to them again, to the same bytes.

Held by the compile server, which never changes it; a job is a fork, whose writes are its own.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from service.base import Quantization
from service.quantized.loading import load_quantized

PREFIX = "base_model.model."
"""Of every tensor name in the files that peft saves."""

_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class PeftBase:
    model: PreTrainedModel
    modules: dict[str, torch.nn.Module]
    """By path, as they were before any adapter."""
    is_quantized: bool = False
    """In 8 or 4 bits, and all else in the run dtype already."""

    @property
    def embedding_path(self) -> str:
        embedding = self.model.get_input_embeddings()
        return next(path for path, module in self.modules.items() if module is embedding)

    def widen(self, paths: set[str]) -> None:
        """Bring the modules at `paths`, and whatever is small, to float32.

        peft derives values from base weights, and keeps copies of modules in their dtype: on a base
        that is served in float32 that has to happen in float32, whatever the files hold.
        """
        for path, module in self.modules.items():
            for parameter in module._parameters.values():
                if parameter is None or not parameter.is_floating_point():
                    continue
                if path in paths or parameter.numel() <= _SMALL:
                    parameter.data = parameter.data.float()

    def parameter_named(self, tensor_name: str) -> torch.Tensor | None:
        """The base's own weight or bias that a tensor of an upload is named after."""
        name = tensor_name.removeprefix(PREFIX).replace(".base_layer.", ".")
        path, _, parameter = name.rpartition(".")
        return self.modules[path]._parameters.get(parameter) if path in self.modules else None

    def below(self, path: str) -> list[str]:
        return [one for one in self.modules if one.startswith(f"{path}.")]

    def owner_of(self, tensor_name: str) -> str:
        """Path of the base's module that a tensor of an upload is about."""
        path = tensor_name.removeprefix(PREFIX)
        while path and path not in self.modules:
            path = path.rpartition(".")[0]
        return path


def load_peft_base(
    folder: Path, quantization: Quantization = "none", dtype: str = "auto"
) -> PeftBase:
    """`dtype`: of the run, which a quantised base is rounded from; others stay as they are."""
    if quantization != "none":
        model = load_quantized(
            folder,
            quantization,
            getattr(torch, dtype),
            torch.device("cpu"),
            attn_implementation="eager",
        )
        return PeftBase(model, dict(model.named_modules()), is_quantized=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        trust_remote_code=False,
        use_safetensors=True,
    )
    if model._can_set_attn_implementation():
        # Older code has one attention of its own, and runs it by default: Falcon's other one adds
        # its ALiBi twice.
        model.set_attn_implementation("eager")
    frozen: PreTrainedModel = model.requires_grad_(False).train(False)
    return PeftBase(frozen, dict(frozen.named_modules()))


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What tells whether somebody wrote into the base: where each tensor lies, how often it was
    changed, and the values of those small enough to keep (biases, norms)."""

    places: dict[str, tuple[int, int]]
    small: dict[str, torch.Tensor]

    @classmethod
    def take(cls, base: PeftBase) -> "Fingerprints":
        tensors = _tensors(base)
        places = {name: (tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}
        small = {name: one.clone() for name, one in tensors.items() if one.numel() <= _SMALL}
        return cls(places, small)

    def changed(self, base: PeftBase) -> list[str]:
        """Paths of the tensors of the base that are not what they were."""
        return [
            name
            for name, tensor in _tensors(base).items()
            if (tensor.data_ptr(), tensor._version) != self.places.get(name)
            or (name in self.small and not torch.equal(self.small[name], tensor))
        ]


def _tensors(base: PeftBase) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the modules that were there before any adapter."""
    return {
        f"{path}.{name}": tensor.detach()
        for path, module in base.modules.items()
        for group in (module._parameters, module._buffers)
        for name, tensor in group.items()
        if tensor is not None
    }
