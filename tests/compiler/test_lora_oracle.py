"""Compiled terms against peft's own forward pass, float32, whole models."""

from pathlib import Path

import pytest
import torch

from tests.adapters.evaluate import compiled_logits, load_terms
from tests.adapters.peft_folders import make_lora, peft_logits

pytestmark = pytest.mark.filterwarnings("ignore")

IDS = torch.arange(2, 34).reshape(2, 16) * 2 % 96

LORA_CASES = {
    "plain": {},
    "rslora": {"use_rslora": True, "r": 16},
    "patterns": {
        "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 8},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 3, "v_proj": 32},
    },
    "patterns-rslora": {"rank_pattern": {"^model.layers.0.*q_proj": 9}, "use_rslora": True},
    "layers": {"layers_to_transform": [0, 2]},
    "one-layer-by-pattern": {"layers_to_transform": 1, "layers_pattern": "layers"},
    "all-linear": {"target_modules": "all-linear"},
    "exclude": {"target_modules": "all-linear", "exclude_modules": ["down_proj", "0.mlp.up_proj"]},
    "regex": {"target_modules": r".*layers\.[01]\.mlp\.(up|down)_proj"},
    "lm_head": {"target_modules": ["q_proj", "lm_head"]},
    "lora_bias": {"target_modules": ["q_proj", "o_proj"], "lora_bias": True},
    "bias-only": {"bias": "lora_only"},
    "bias-all": {"bias": "all", "target_modules": ["q_proj"]},
    "dora": {"use_dora": True, "target_modules": "all-linear"},
    "dora-rslora": {"use_dora": True, "use_rslora": True, "rank_pattern": {"q_proj": 7}},
    "dora-bias": {"use_dora": True, "bias": "lora_only"},
    "dora-bias-all": {"use_dora": True, "bias": "all", "target_modules": ["k_proj", "up_proj"]},
    "dora-lm_head": {"use_dora": True, "target_modules": ["lm_head", "v_proj"]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "mica": {"init_lora_weights": "mica"},
    "dropout": {"lora_dropout": 0.5},
    "fan_in_fan_out": {"fan_in_fan_out": True},
}


CASES = [
    (base, case)
    for base in ("llama", "llama-tied", "qwen2")
    for case in LORA_CASES
    if "tied" not in base or "lm_head" in case
]


@pytest.mark.parametrize(("base_name", "case"), CASES)
def test_terms_equal_peft(bases, compile_folder, tmp_path: Path, base_name: str, case: str) -> None:
    base = bases(base_name)
    folder = make_lora(base, tmp_path / "adapter", **LORA_CASES[case])
    result = compile_folder(base, folder)

    expected = peft_logits(base, folder, IDS)
    with torch.no_grad():
        untouched = base.model(IDS).logits
    actual = compiled_logits(base.model, Path(result.compiled), IDS)

    assert (expected - untouched).abs().max() > 0.02, "the adapter must have a visible effect"
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_factor_is_folded_in_before_the_one_rounding(
    bases, compile_folder, tmp_path: Path, dtype: str
) -> None:
    base = bases("llama")
    folder = make_lora(base, tmp_path / "adapter", use_dora=True, use_rslora=True)
    _, exact = load_terms(Path(compile_folder(base, folder).compiled))
    _, rounded = load_terms(Path(compile_folder(base, folder, dtype=dtype).compiled))
    narrow = getattr(torch, dtype)
    for site, terms in exact.items():
        for name in ("a", "b"):
            expected = terms[name].to(narrow).float()
            torch.testing.assert_close(rounded[site][name], expected, rtol=0, atol=1e-6)
        assert torch.equal(rounded[site]["c"], terms["c"])
