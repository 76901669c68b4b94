"""The tensors of a LoRA file, by module and role; names are the only thing looked at."""

import re
from dataclasses import dataclass, field

PREFIX = "base_model.model."

_ROLES = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_B.bias": "b_bias",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "base_layer.weight": "base_weight",
    "base_layer.bias": "bias",
}
_LORA_NAME = re.compile(
    r"(?P<module>.+?)\.(?P<role>" + "|".join(map(re.escape, sorted(_ROLES, reverse=True))) + ")"
)


@dataclass(slots=True)
class ModuleTensors:
    """Full tensor names by role: `a`, `b`, `b_bias`, `magnitude`, `base_weight`, `bias`."""

    names: dict[str, str] = field(default_factory=dict)
    is_bare_bias: bool = False
    """The bias is named as on an untouched module, without `base_layer`."""

    @property
    def is_adapted(self) -> bool:
        return any(role in self.names for role in ("a", "b", "b_bias", "magnitude"))


@dataclass(slots=True)
class GroupedTensors:
    modules: dict[str, ModuleTensors] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def group_tensors(names: list[str]) -> GroupedTensors:
    grouped = GroupedTensors()
    for name in sorted(names):
        if not _place(name, grouped.modules):
            grouped.unknown.append(name)
    return grouped


def _place(name: str, modules: dict[str, ModuleTensors]) -> bool:
    if not name.startswith(PREFIX):
        return False
    rest = name.removeprefix(PREFIX)
    match = _LORA_NAME.fullmatch(rest)
    if match is None and not rest.endswith(".bias"):
        return False
    path, role = (
        (match["module"], _ROLES[match["role"]]) if match else (rest.removesuffix(".bias"), "bias")
    )
    tensors = modules.setdefault(path, ModuleTensors())
    if role in tensors.names:
        return False
    tensors.names[role] = name
    tensors.is_bare_bias = tensors.is_bare_bias or match is None
    return True
