"""The table of config fields against peft itself."""

import dataclasses
import warnings
from typing import Any

import pytest
from peft import LoraConfig

from service.adapters.limits import AdapterLimits
from service.compiler.kinds.lora_config import parse_config
from service.compiler.kinds.lora_fields import NEUTRAL, USED, WITHOUT_EFFECT, is_neutral
from service.compiler.refusals import Refusals
from service.errors import AdapterRefused

MINIMAL: dict[str, Any] = {"peft_type": "LORA", "target_modules": ["q_proj"]}


def test_the_table_covers_exactly_peft_s_fields() -> None:
    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    tables = [USED, frozenset(WITHOUT_EFFECT), frozenset(NEUTRAL)]
    assert frozenset().union(*tables) == fields
    assert sum(map(len, tables)) == len(fields), "a field stands in one table only"
    assert all(WITHOUT_EFFECT.values()), "each has its reason"


def test_peft_s_own_defaults_are_accepted() -> None:
    config = LoraConfig(target_modules=["q_proj"]).to_dict()
    config = {key: list(v) if isinstance(v, set) else v for key, v in config.items()}
    for field in NEUTRAL:
        assert is_neutral(field, config[field]), field
    parse_config({**config, "peft_type": "LORA"}, Refusals(50))


def codes(**fields: Any) -> set[tuple[str, str]]:
    with pytest.raises(AdapterRefused) as caught:
        parse_config({**MINIMAL, **fields}, Refusals(AdapterLimits().max_refusals))
    return {(one.code, one.subject) for one in caught.value.refusals}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modules_to_save", ["lm_head"]),
        ("megatron_config", {}),
        ("trainable_token_indices", [1]),
        ("velora_config", {}),
        ("alora_invocation_tokens", [1]),
        ("use_qalora", True),
        ("monteclora_config", {}),
        ("layer_replication", [[0, 1]]),
        ("target_parameters", ["x"]),
        ("use_bdlora", {}),
        ("arrow_config", {}),
        ("kasa_config", {}),
        ("ensure_weight_tying", True),
    ],
)
def test_every_unsupported_field_is_refused_by_name(field: str, value: Any) -> None:
    assert codes(**{field: value}) == {("unsupported_field", field)}
    assert set(NEUTRAL) >= {field}


def test_unknown_fields_are_refused_unless_null() -> None:
    assert codes(new_trick=0) == {("unknown_field", "new_trick")}
    parse_config({**MINIMAL, "new_trick": None}, Refusals(50))


@pytest.mark.parametrize(
    "init", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga"]
)
def test_inits_that_change_the_base_are_refused_with_advice(init: str) -> None:
    assert codes(init_lora_weights=init) == {("unconverted_init", "init_lora_weights")}


@pytest.mark.parametrize(
    "init", [True, False, None, "gaussian", "Gaussian", "eva", "orthogonal", "mica"]
)
def test_plain_inits_are_accepted(init: Any) -> None:
    parse_config({**MINIMAL, "init_lora_weights": init}, Refusals(50))


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 0},
        {"r": True},
        {"r": "8"},
        {"r": -1},
        {"lora_alpha": "16"},
        {"lora_alpha": float("inf")},
        {"rank_pattern": []},
        {"rank_pattern": {"q_proj": 0}},
        {"rank_pattern": {"(": 2}},
        {"alpha_pattern": {"q_proj": None}},
        {"alpha_pattern": {"(?i)q": 2}},
        {"use_rslora": 1},
        {"bias": "some"},
        {"target_modules": "("},
        {"target_modules": []},
        {"target_modules": None},
        {"target_modules": [1]},
        {"exclude_modules": 3},
        {"layers_to_transform": ["1"]},
        {"layers_to_transform": True},
        {"target_modules": "q", "layers_to_transform": 1},
        {"layers_pattern": "layers"},
        {"lora_bias": True, "use_dora": True},
        {"lora_bias": True, "init_lora_weights": "gaussian"},
        {"use_dora": True, "init_lora_weights": "mica"},
    ],
)
def test_invalid_values_are_refused(fields: dict[str, Any]) -> None:
    assert {code for code, _ in codes(**fields)} == {"invalid_field"}


def test_reasons_are_collected_and_bounded() -> None:
    many = {f"unknown{i}": 1 for i in range(60)}
    with pytest.raises(AdapterRefused) as caught:
        parse_config({**MINIMAL, **many}, Refusals(50))
    assert len(caught.value.refusals) == 51
    assert caught.value.refusals[-1].message.startswith("10 further")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields",
    [
        {"lora_bias": True, "use_dora": True},
        {"target_modules": "q", "layers_to_transform": 1},
        {"layers_pattern": "layers"},
    ],
)
def test_peft_refuses_the_same_combinations(fields: dict[str, Any]) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"."):
        LoraConfig(**{"target_modules": ["q"], **fields})
