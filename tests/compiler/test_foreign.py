"""Folders of the `adapters` library are refused as what they are, with what to do instead."""

import json
from pathlib import Path
from typing import Any

import pytest

HOULSBY = {
    "mh_adapter": True,
    "output_adapter": True,
    "reduction_factor": 16,
    "non_linearity": "swish",
    "original_ln_before": False,
}


def saved(folder: Path, inner: dict[str, Any]) -> Path:
    """As `adapters` 1.3 saves it: its own names for the weights, no `peft_type`."""
    config = {
        "config": inner,
        "hidden_size": 32,
        "model_class": "LlamaForCausalLM",
        "model_name": "some/base",
        "model_type": "llama",
        "name": "houlsby",
        "version": "adapters.1.3.0",
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter.safetensors").write_bytes(b"never opened")
    return folder


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (HOULSBY, ("bottleneck adapter", "LoRA on all linear modules")),
        ({"architecture": "lora", "r": 8}, ("`adapters` library", "which has LoRA too")),
        ({"architecture": "prefix_tuning"}, ("`adapters` library", "which has prefix tuning")),
        ({"architecture": "reft"}, ("`adapters` library", "only those of peft")),
    ],
)
def test_the_reason_says_what_the_folder_is(
    bases, refusals_of, tmp_path: Path, inner: dict[str, Any], words: tuple[str, ...]
) -> None:
    (reason,) = refusals_of(bases("llama"), saved(tmp_path / "a", inner))
    assert (reason.code, reason.subject) == ("unsupported_kind", "adapter_config.json")
    assert all(word in reason.message for word in words)


@pytest.mark.parametrize("config", [{}, {"config": 3}, {"config": {}}, {"peft_type": "HOULSBY"}])
def test_other_configs_are_only_unknown(bases, refusals_of, tmp_path: Path, config) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    reasons = refusals_of(bases("llama"), tmp_path)
    assert ("unsupported_kind", "peft_type") in {(one.code, one.subject) for one in reasons}
