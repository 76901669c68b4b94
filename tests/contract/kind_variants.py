"""Every PEFT kind: one adapter per way in which peft can be asked for it, on any architecture.

The LoRA family on linear modules has a table of its own in `lora_variants`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import save_file

from tests.contract.architectures import ARCHITECTURES
from tests.contract.oracle import fresh_model
from tests.contract.targets import LLAMA, Targets

Fields = dict[str, Any]


def targets_of(architecture: str) -> Targets:
    """By the names of `ARCHITECTURES`."""
    return ARCHITECTURES[architecture].targets


@dataclass(frozen=True)
class KindVariant:
    peft_type: str
    fields: Callable[[Targets], Fields]
    rejects_conv1d: bool = False
    """peft itself has no layer of this kind for GPT-2's Conv1D."""
    model_types: frozenset[str] | None = None
    """The only ones that peft knows the kind for."""
    num_tasks: int = 0
    needs_bias: bool = False
    """It is about biases, which the base must have."""
    spread: float = 0.1
    """How far the trainable values are moved away from their start."""


def _linear(
    peft_type: str, *, rejects_conv1d: bool = False, spread: float = 0.1, **fields: Any
) -> KindVariant:
    def build(targets: Targets) -> Fields:
        return {"target_modules": targets.linear, **fields}

    return KindVariant(peft_type, build, rejects_conv1d, spread=spread)


def _front(peft_type: str, **fields: Any) -> KindVariant:
    def build(targets: Targets) -> Fields:
        told = {} if targets.num_heads is None else {"num_attention_heads": targets.num_heads}
        return told | fields

    return KindVariant(peft_type, build, num_tasks=fields.get("num_tasks", 0))


def _lora(build: Callable[[Targets], Fields]) -> KindVariant:
    return KindVariant("LORA", lambda targets: {"r": 4, "lora_alpha": 8} | build(targets))


_ADAPTION_MODELS = frozenset({"llama", "mistral", "gpt2"})

KIND_VARIANTS: dict[str, KindVariant] = {
    "lora-embedding": _lora(lambda t: {"target_modules": [*t.attention, t.embedding]}),
    "lora-embedding-head": _lora(lambda t: {"target_modules": [*t.attention, t.embedding, t.head]}),
    "lora-dora-embedding": _lora(
        lambda t: {"use_dora": True, "target_modules": [*t.attention, t.embedding]}
    ),
    "lora-saved-head": _lora(
        lambda t: {"target_modules": list(t.attention), "modules_to_save": [t.head]}
    ),
    "lora-saved-embedding": _lora(
        lambda t: {"target_modules": list(t.attention), "modules_to_save": [t.embedding]}
    ),
    "lora-saved-norm": _lora(
        lambda t: {"target_modules": list(t.attention), "modules_to_save": list(t.norms)}
    ),
    "lora-tokens": _lora(
        lambda t: {"target_modules": list(t.attention), "trainable_token_indices": [5, 9, 17]}
    ),
    "lora-tokens-by-name": _lora(
        lambda t: {
            "target_modules": list(t.attention),
            "trainable_token_indices": {t.embedding: [5, 9], t.head: [6, 9, 30]},
        }
    ),
    "lora-bias-all": _lora(lambda t: {"target_modules": list(t.attention), "bias": "all"}),
    "alora": _lora(lambda t: {"target_modules": t.linear, "alora_invocation_tokens": [5, 9]}),
    "qalora": _lora(
        lambda t: {"target_modules": t.linear, "use_qalora": True, "qalora_group_size": 8}
    ),
    "adalora": _linear("ADALORA", init_r=6, target_r=3, total_step=10, lora_alpha=9),
    "adaption-prompt": KindVariant(
        "ADAPTION_PROMPT",
        lambda _: {"adapter_len": 4, "adapter_layers": 2},
        model_types=_ADAPTION_MODELS,
        spread=0.5,
    ),
    "beft": _linear("BEFT", rejects_conv1d=True),
    "boft": _linear("BOFT", rejects_conv1d=True, boft_block_size=4, bias="boft_only"),
    "boft-butterfly": _linear(
        "BOFT",
        rejects_conv1d=True,
        boft_block_size=0,
        boft_block_num=8,
        boft_n_butterfly_factor=2,
    ),
    "c3a": _linear("C3A", rejects_conv1d=True, block_size=8),
    "cartridge": _front("CARTRIDGE", num_virtual_tokens=6, num_frozen_tokens=1),
    "cpt": _front(
        "CPT",
        cpt_token_ids=[3, 4, 5, 6],
        cpt_mask=[1, 1, 1, 1],
        cpt_tokens_type_mask=[1, 2, 3, 4],
    ),
    "deft": _linear("DEFT", r=4),
    "delora": _linear("DELORA", rejects_conv1d=True, r=4),
    "fourierft": _linear("FOURIERFT", n_frequency=50),
    "glora": _linear("GLORA", rejects_conv1d=True, r=4),
    "gralora": _linear("GRALORA", r=4, gralora_k=2, hybrid_r=2),
    "hira": _linear("HIRA", r=4),
    "hra": _linear("HRA", rejects_conv1d=True, r=4),
    "hra-gram-schmidt": _linear("HRA", rejects_conv1d=True, r=4, apply_GS=True),
    "ia3": KindVariant(
        "IA3", lambda t: {"target_modules": t.linear, "feedforward_modules": list(t.down)}
    ),
    "ln-tuning": KindVariant("LN_TUNING", lambda t: {"target_modules": list(t.norms)}),
    "loha": _linear("LOHA", rejects_conv1d=True, r=3),
    "lokr": _linear("LOKR", rejects_conv1d=True, r=3),
    "lokr-decomposed": _linear(
        "LOKR", rejects_conv1d=True, r=2, decompose_both=True, decompose_factor=8
    ),
    "miss": _linear("MISS", rejects_conv1d=True, r=4),
    "miss-bat": _linear("MISS", rejects_conv1d=True, r=4, init_weights="bat"),
    "miss-mini": _linear("MISS", rejects_conv1d=True, r=4, init_weights="mini", mini_r=8),
    "multitask-prompt": _front(
        "MULTITASK_PROMPT_TUNING", num_tasks=3, num_virtual_tokens=5, num_ranks=2
    ),
    "oft": _linear("OFT", rejects_conv1d=True, r=0, oft_block_size=8),
    "oft-shared": _linear("OFT", rejects_conv1d=True, r=0, oft_block_size=8, block_share=True),
    "oft-constrained": _linear(
        "OFT", rejects_conv1d=True, r=0, oft_block_size=8, coft=True, eps=1.0
    ),
    "oft-cayley": _linear(
        "OFT", rejects_conv1d=True, r=0, oft_block_size=8, use_cayley_neumann=False
    ),
    "osf": _linear("OSF", rejects_conv1d=True),
    "p-tuning-mlp": _front("P_TUNING", num_virtual_tokens=5, encoder_hidden_size=16),
    "p-tuning-lstm": _front(
        "P_TUNING",
        num_virtual_tokens=5,
        encoder_hidden_size=16,
        encoder_reparameterization_type="LSTM",
    ),
    "peanut": _linear("PEANUT", rejects_conv1d=True, r=4),
    "poly": KindVariant(
        "POLY",
        lambda t: {"target_modules": t.linear, "r": 4, "n_tasks": 2, "n_skills": 3, "n_splits": 2},
        rejects_conv1d=True,
        num_tasks=2,
    ),
    "prefix": _front("PREFIX_TUNING", num_virtual_tokens=5),
    "prefix-projected": _front(
        "PREFIX_TUNING", num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=16
    ),
    "prompt": _front("PROMPT_TUNING", num_virtual_tokens=5),
    "psoft": _linear("PSOFT", rejects_conv1d=True, r=4),
    "pvera": _linear("PVERA", r=8),
    "randlora": _linear("RANDLORA", r=8, spread=0.01),
    "road-1": _linear("ROAD", rejects_conv1d=True, variant="road_1", group_size=8),
    "road-2": _linear("ROAD", rejects_conv1d=True, variant="road_2", group_size=8),
    "road-4": _linear("ROAD", rejects_conv1d=True, variant="road_4", group_size=16),
    "shira": _linear("SHIRA", rejects_conv1d=True, r=2),
    "supertuning": _linear("SUPERTUNING", rejects_conv1d=True),
    "tinylora": _linear("TINYLORA", r=2),
    "trainable-tokens": KindVariant("TRAINABLE_TOKENS", lambda _: {"token_indices": [5, 9]}),
    "unilora": _linear("UNILORA", spread=0.3, r=4, theta_d_length=64),
    "vblora": _linear("VBLORA", r=4, num_vectors=20, vector_length=8),
    "vera": _linear("VERA", r=8),
    "vera-regenerated": _linear("VERA", r=8, save_projection=False, projection_prng_key=7),
    "waveft": _linear("WAVEFT", n_frequency=50),
}
"""Missing: kinds that are refused by their `peft_type` (`variants.BARE`)."""


def make_kind(
    base: Path,
    variant: KindVariant,
    folder: Path,
    targets: Targets = LLAMA,
    seed: int = 1,
    **changed: Any,
) -> Path:
    """Saved by peft, every trainable tensor moved away from its start. `changed`: other fields."""
    torch.manual_seed(seed)
    model = fresh_model(base)
    config = PEFT_TYPE_TO_CONFIG_MAPPING[variant.peft_type](
        task_type="CAUSAL_LM", **variant.fields(targets) | changed
    )
    adapted = get_peft_model(model, config)
    perturb(adapted, variant.spread)
    # A template compiled for every adapter would take longer than all the rest.
    adapted.create_or_update_model_card = lambda _: None
    adapted.save_pretrained(folder)
    return folder


def make_bare(peft_type: str, folder: Path) -> Path:
    """An upload of which nothing but the kind is known."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type}))
    save_file({"one": torch.ones(1)}, folder / "adapter_model.safetensors")
    return folder


@torch.no_grad()
def perturb(model: PeftModel, spread: float) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * spread)
