"""LoRA beside what else a config can ask for: exact, or refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, get_peft_model

from service.errors import AdapterRefused
from tests.compiler.tuners.bench import PROBE, TOLERANCE, Bench
from tests.contract.kind_variants import KindVariant, perturb

pytestmark = pytest.mark.filterwarnings("ignore")

EXACT: dict[str, dict[str, Any]] = {
    "a module is adapted and saved": {
        "modules_to_save": ["lm_head"],
        "target_modules": ["q_proj", "lm_head"],
    },
    "a block is saved": {"modules_to_save": ["mlp"]},
    "a block is saved and adapted inside": {
        "modules_to_save": ["mlp"],
        "target_modules": ["q_proj", "up_proj"],
    },
    "a layer is saved": {"modules_to_save": ["layers.1"]},
    "attention is saved": {"modules_to_save": ["self_attn"], "target_modules": ["up_proj"]},
    "both ends are saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "the embedding is saved": {"modules_to_save": ["embed_tokens"]},
    "the embedding is saved, the head follows": {
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "the head is saved, the embedding follows": {
        "modules_to_save": ["lm_head"],
        "ensure_weight_tying": True,
    },
    "tokens": {"trainable_token_indices": [5, 9]},
    "tokens, the head follows": {"trainable_token_indices": [5, 9], "ensure_weight_tying": True},
    "tokens at both ends": {
        "trainable_token_indices": {"embed_tokens": [5, 9], "lm_head": [5, 9]},
    },
    "tokens of the head": {"trainable_token_indices": {"lm_head": [11, 5]}},
    "a token twice": {"trainable_token_indices": [5, 5, 9]},
    "the embedding is adapted, the head follows": {
        "target_modules": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "both ends are adapted": {"target_modules": ["embed_tokens", "lm_head"]},
    "aLoRA with learned biases": {"alora_invocation_tokens": [5, 9], "lora_bias": True},
    "aLoRA at the head": {"alora_invocation_tokens": [5, 9], "target_modules": ["lm_head"]},
    "aLoRA that is not invoked": {"alora_invocation_tokens": [100]},
    "MiCA": {"init_lora_weights": "mica", "target_modules": ["q_proj", "embed_tokens"]},
    "block-diagonal": {
        "target_modules": ["q_proj", "down_proj"],
        "use_bdlora": {
            "target_modules_bd_a": ["q_proj"],
            "target_modules_bd_b": ["down_proj"],
            "nblocks": 2,
        },
    },
    "patterns at an embedding": {
        "target_modules": ["q_proj", "embed_tokens"],
        "use_rslora": True,
        "rank_pattern": {"embed_tokens": 3},
        "alpha_pattern": {"embed_tokens": 7},
    },
}
NOT_BEFORE_THE_INVOCATION: dict[str, dict[str, Any]] = {
    "a saved norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [5]},
    "replaced biases": {"bias": "lora_only"},
}


def lora(**fields: Any) -> KindVariant:
    defaults = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    return KindVariant("LORA", lambda _: defaults | fields)


def codes(bench: Bench, variant: KindVariant) -> set[tuple[str, str]]:
    with pytest.raises(AdapterRefused) as caught:
        bench.compile(bench.make(variant))
    return {(one.code, one.subject) for one in caught.value.refusals}


@pytest.mark.parametrize("architecture", ["biased", "llama-tied"])
@pytest.mark.parametrize("name", EXACT)
def test_lora_beside_others(benches: Callable[[str], Bench], architecture: str, name: str) -> None:
    """What a tied base does to its other end is peft's to say, and followed."""
    bench = benches(architecture)
    folder = bench.make(lora(**EXACT[name]))
    compiled = bench.compile(folder)
    assert bench.difference(compiled, folder) < TOLERANCE
    is_silent = "not invoked" in name
    changes = (bench.logits(compiled) - bench.logits(None)).abs().max()
    assert (changes < TOLERANCE) == is_silent


@pytest.mark.parametrize("name", NOT_BEFORE_THE_INVOCATION)
def test_nothing_beside_alora_may_act_before_the_invocation(
    benches: Callable[[str], Bench], name: str
) -> None:
    fields = NOT_BEFORE_THE_INVOCATION[name]
    reasons = codes(benches("biased"), lora(alora_invocation_tokens=[5, 9], **fields))
    assert reasons == {("unsupported_field", "alora_invocation_tokens")}


def test_alora_acts_from_the_last_invocation_on(bench: Bench) -> None:
    folder = bench.make(lora(alora_invocation_tokens=[5, 9], target_modules=["q_proj", "v_proj"]))
    compiled = bench.compile(folder)
    assert compiled.manifest is not None
    assert compiled.manifest.invocation_tokens == (5, 9)
    ids = [7, 5, 9, 30, 31, 5, 9, 8]
    changed = (bench.logits(compiled, ids) - bench.logits(None, ids)).abs().amax(1)
    assert (changed[:5] < 1e-6).all()
    assert (changed[5:] > 0.01).all()


def test_two_layers_of_peft_at_one_place(benches: Callable[[str], Bench]) -> None:
    """Trained tokens of a tied embedding reach the head, which is saved as well."""
    fields = {"trainable_token_indices": [5], "modules_to_save": ["lm_head"]}
    reasons = codes(benches("llama-tied"), lora(**fields))
    assert ("unsupported_structure", "lm_head") in reasons


def test_a_token_that_does_not_exist(bench: Bench) -> None:
    reasons = codes(bench, lora(trainable_token_indices=[-1]))
    assert reasons == {("peft_rejects", "model.embed_tokens")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_parameters", ["up_proj.weight"]),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("kasa_config", {"beta": 1e-3}),
        ("velora_config", {"num_groups": 4}),
    ],
)
def test_fields_that_peft_would_follow_are_refused_beside_others_too(
    bench: Bench, field: str, value: Any
) -> None:
    """Where peft reads the upload no more than where it does not."""
    variant = lora(modules_to_save=["norm"], **{field: value})
    assert codes(bench, variant) == {("unsupported_field", field)}


def test_adalora_with_the_ranks_that_training_left(bench: Bench) -> None:
    """Some modules keep fewer ranks, one keeps none."""
    torch.manual_seed(0)
    names = ["q_proj", "v_proj"]
    config = AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules=names, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(bench.fresh_model(), config)
    perturb(adapted, 0.3)
    paths = [f"model.layers.{i}.self_attn.{name}.lora_E" for i in range(2) for name in names]
    kept = [[True, False, True, True], [False] * 4, [False, True, False, False], [True] * 4]
    adapted.peft_config["default"].rank_pattern = dict(zip(paths, kept, strict=True))
    folder = bench.new_folder()
    adapted.save_pretrained(folder)
    compiled = bench.compile(folder)
    assert bench.difference(compiled, folder, PROBE) < TOLERANCE
    assert (bench.logits(compiled) - bench.logits(None)).abs().max() > 100 * TOLERANCE
