"""The base model as peft sees it: mapped from its files, in their own dtype, never served.

Held by the compile server, which never changes it; a job is a fork, whose writes are its own.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class PeftBase:
    model: PreTrainedModel
    modules: dict[str, torch.nn.Module]
    """By path, as they were before any adapter."""

    @property
    def embedding_path(self) -> str:
        embedding = self.model.get_input_embeddings()
        return next(path for path, module in self.modules.items() if module is embedding)


def load_peft_base(folder: Path) -> PeftBase:
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="eager",
    )
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
