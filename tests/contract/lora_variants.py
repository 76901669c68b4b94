"""The LoRA family on linear modules: one adapter per way in which peft can be asked for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft.tuners.lora.config import BdLoraConfig

from tests.contract.kind_variants import KindVariant, make_kind
from tests.contract.targets import LLAMA, Targets

Fields = dict[str, Any]


def _lora(build: Callable[[Targets], Fields], *, needs_bias: bool = False) -> KindVariant:
    return KindVariant("LORA", lambda t: {"lora_alpha": 8} | build(t), needs_bias=needs_bias)


VARIANTS: dict[str, KindVariant] = {
    "plain": _lora(lambda t: {"r": 4, "target_modules": list(t.attention)}),
    "all-linear": _lora(lambda t: {"r": 8, "target_modules": list(t.linears)}),
    "rslora": _lora(
        lambda t: {"r": 16, "use_rslora": True, "target_modules": [t.attention[0], *t.down]}
    ),
    "patterns": _lora(
        lambda t: {
            "r": 4,
            "target_modules": t.linear,
            "rank_pattern": {t.down[0]: 2, rf"\w+\.\w+\.1\.\w+\.{t.attention[-1]}": 9},
            "alpha_pattern": {t.attention[0]: 3},
        }
    ),
    "one-layer": _lora(
        lambda t: {"r": 3, "target_modules": list(t.linears), "layers_to_transform": [1]}
    ),
    "lm-head": _lora(lambda t: {"r": 4, "target_modules": [t.attention[-1], t.head]}),
    "lora-bias": _lora(
        lambda t: {"r": 4, "target_modules": [t.attention[0], *t.down], "lora_bias": True}
    ),
    "bias": _lora(
        lambda t: {"r": 2, "target_modules": list(t.attention), "bias": "lora_only"},
        needs_bias=True,
    ),
    "dora": _lora(lambda t: {"r": 4, "use_dora": True, "target_modules": list(t.linears)}),
    "dora-bias": _lora(
        lambda t: {
            "r": 4, "use_dora": True, "bias": "lora_only", "target_modules": [t.attention[-1]]
        },
        needs_bias=True,
    ),
    "by-all-linear": _lora(lambda t: {"r": 5, "target_modules": "all-linear"}),
    "block-diagonal": _lora(
        lambda t: {
            "r": 4,
            "target_modules": t.linear,
            "use_bdlora": BdLoraConfig(
                target_modules_bd_a=[t.attention[0]], nblocks=2, match_strict=False
            ),
        }
    ),
    "experts": _lora(
        lambda t: {"r": 4, "target_modules": [], "target_parameters": ["experts.down_proj"]}
    ),
    "pissa": _lora(
        lambda t: {"r": 4, "target_modules": t.linear, "init_lora_weights": "pissa"}
    ),
    "rank-1": _lora(lambda t: {"r": 1, "target_modules": list(t.down), "lora_alpha": 4}),
}  # fmt: skip


def make_adapter(
    base: Path, variant: str, folder: Path, seed: int = 1, targets: Targets = LLAMA
) -> Path:
    return make_kind(base, VARIANTS[variant], folder, targets, seed)
