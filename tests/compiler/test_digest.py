"""The digest is what a version does: other files, same digest; any other effect, another."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from service.adapters.compiled import read_header
from tests.adapters.peft_folders import make_lora
from tests.compiler.edit import WEIGHTS, copy

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def base(bases):
    return bases("llama")


@pytest.fixture
def digest(base, compile_folder):
    return lambda folder: compile_folder(base, folder).manifest.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": "all-linear"},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    ],
)
def test_saving_again_changes_nothing(base, digest, tmp_path: Path, fields) -> None:
    folder = make_lora(base, tmp_path / "first", **fields)
    model = PeftModel.from_pretrained(base.fresh_model(), folder)
    model.save_pretrained(tmp_path / "second")
    before = json.loads((folder / "adapter_config.json").read_text())
    assert digest(folder) == digest(tmp_path / "second")
    other = {
        "peft_version": "0.13.0",
        "task_type": None,
        "inference_mode": not before["inference_mode"],
        "base_model_name_or_path": "/somewhere/else",
        "lora_dropout": 0.3,
        "eva_config": {"rho": 2},
        "from_the_future": None,
    }
    assert digest(folder) == digest(copy(folder, tmp_path / "third", **other))


def test_fields_of_older_peft_versions_may_be_absent(base, digest, tmp_path: Path) -> None:
    folder = make_lora(base, tmp_path / "new")
    old = copy(folder, tmp_path / "old")
    config = json.loads((old / "adapter_config.json").read_text())
    kept = ("peft_type", "r", "lora_alpha", "target_modules", "bias", "fan_in_fan_out")
    (old / "adapter_config.json").write_text(json.dumps({key: config[key] for key in kept}))
    assert digest(folder) == digest(old)


def test_the_order_and_metadata_of_the_file_do_not_matter(base, digest, tmp_path: Path) -> None:
    folder = make_lora(base, tmp_path / "first")
    tensors = load_file(folder / WEIGHTS)
    again = copy(folder, tmp_path / "second")
    reverse = dict(reversed(tensors.items()))
    save_file(reverse, again / WEIGHTS, metadata={"format": "pt", "who": "cares"})
    assert digest(folder) == digest(again)


def test_every_effect_changes_it(base, digest, tmp_path: Path) -> None:
    folder = make_lora(base, tmp_path / "first")
    found = {digest(folder)}
    found.add(digest(copy(folder, tmp_path / "alpha", lora_alpha=9)))
    found.add(digest(copy(folder, tmp_path / "rs", use_rslora=True)))
    found.add(digest(copy(folder, tmp_path / "pattern", alpha_pattern={"0.self_attn.q_proj": 9})))
    bit = copy(folder, tmp_path / "bit")
    tensors = load_file(bit / WEIGHTS)
    name = sorted(tensors)[3]
    tensors[name].view(torch.int32).view(-1)[-1] ^= 1
    save_file(tensors, bit / WEIGHTS)
    found.add(digest(bit))
    narrow = copy(folder, tmp_path / "narrow")
    save_file({key: value.bfloat16() for key, value in tensors.items()}, narrow / WEIGHTS)
    found.add(digest(narrow))
    assert len(found) == 6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_manifest_knows_the_size_of_the_compiled_form(
    base, compile_folder, tmp_path: Path, dtype: str
) -> None:
    folder = make_lora(base, tmp_path / "a", use_dora=True, target_modules="all-linear", r=3)
    result = compile_folder(base, folder, dtype=dtype)
    with Path(result.compiled).open("rb") as file:
        header = read_header(file)
        payload = file.read()
    assert len(payload) == header.payload_bytes
    assert result.manifest.payload_bytes(dtype) == header.payload_bytes
    assert header.digest == result.manifest.digest
    assert {site.terms["a"].dtype for site in header.sites} == {dtype}
    assert {site.terms["c"].dtype for site in header.sites} == {"float32"}
