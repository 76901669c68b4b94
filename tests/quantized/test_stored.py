"""How many bits a base has: asked for, stored, or neither possible."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.quantized import stored
from service.quantized.stored import resolve_quantization

NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "bnb_4bit_quant_type": "fp4"}


def write(folder: Path, config: dict[str, Any] | None, *, nested: bool = False) -> Path:
    whole: dict[str, Any] = {} if config is None else {"quantization_config": config}
    whole = {"text_config": whole} if nested else whole
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


@pytest.mark.parametrize(
    ("config", "asked", "found"),
    [
        (None, "none", "none"),
        (None, "fp4", "fp4"),
        (NF4, "none", "nf4"),
        (NF4, "nf4", "nf4"),
        (INT8, "none", "int8"),
        ({**NF4, "bnb_4bit_quant_type": "fp4"}, "none", "fp4"),
    ],
)
def test_a_stored_quantisation_stays(
    tmp_path: Path, config: dict[str, Any] | None, asked: Any, found: str
) -> None:
    assert resolve_quantization(write(tmp_path, config), asked) == found


def test_it_is_found_in_a_nested_config_too(tmp_path: Path) -> None:
    assert resolve_quantization(write(tmp_path, INT8, nested=True), "none") == "int8"


@pytest.mark.parametrize(
    ("config", "asked", "sentence"),
    [
        (NF4, "int8", "stored as nf4, so it cannot be loaded as int8"),
        ({"quant_method": "gptq", "bits": 4}, "none", "quantised by 'gptq'"),
        ({"quant_method": "bitsandbytes"}, "none", "in a way that is not served"),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path, config: dict[str, Any], asked: Any, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        resolve_quantization(write(tmp_path, config), asked)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored.importlib.util, "find_spec", lambda name: None)
    assert resolve_quantization(write(tmp_path, None), "none") == "none"
    with pytest.raises(ConfigurationError, match="pip install 'bitsandbytes"):
        resolve_quantization(tmp_path, "nf4")
