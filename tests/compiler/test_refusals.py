"""What a LoRA upload can get wrong, one thing at a time; every reason has a code and a subject."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.adapters.peft_folders import make_lora
from tests.compiler.edit import WEIGHTS, change_tensors, copy

pytestmark = pytest.mark.filterwarnings("ignore")

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
A0, B0 = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"


DUPLICATED = b"{%s,%s}" % ((b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',) * 2)


def key(name: str) -> str:
    return name.replace(".", "__")


@pytest.fixture
def base(bases):
    return bases("llama")


@pytest.fixture(scope="session")
def plain(bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(bases("llama"), tmp_path_factory.mktemp("plain"))


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return copy(plain, tmp_path / "adapter")


@pytest.fixture
def check(base, refusals_of):
    def run(folder: Path, **options) -> set[tuple[str, str]]:
        return {(one.code, one.subject) for one in refusals_of(base, folder, **options)}

    return run


def test_missing_and_unknown_tensors(folder: Path, check) -> None:
    extra = "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"
    strange = "base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight"
    change_tensors(
        folder,
        **{
            key(A0): None,
            key(extra): torch.zeros(4, 32),
            key(strange): torch.zeros(1),
            "x": torch.zeros(1),
        },
    )
    assert check(folder) == {
        ("missing_tensor", A0),
        ("unknown_tensor", extra),
        ("unknown_tensor", strange),
        ("unknown_tensor", "x"),
    }


def test_shapes_ranks_and_dtypes(folder: Path, check) -> None:
    change_tensors(folder, **{key(A0): torch.zeros(5, 32), key(B0): torch.zeros(32, 4).double()})
    assert check(folder) == {("wrong_shape", A0), ("wrong_dtype", B0)}
    assert check(folder, max_lora_rank=3) >= {
        ("rank_too_high", Q0.removeprefix("base_model.model."))
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(folder: Path, check, dtype, value: float) -> None:
    tensor = torch.zeros(32, 4, dtype=dtype)
    tensor[31, 3] = value
    change_tensors(folder, **{key(B0): tensor})
    assert check(folder) == {("not_finite", B0)}


def test_the_largest_finite_values_pass(base, folder: Path, compile_folder) -> None:
    change_tensors(
        folder,
        **{key(A0): torch.full((4, 32), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16)},
    )
    compile_folder(base, folder)


def test_b_that_overflows_the_run_dtype(folder: Path, base, refusals_of) -> None:
    change_tensors(folder, **{key(B0): torch.full((32, 4), 60000.0)})
    reasons = refusals_of(base, folder, dtype="float16")
    assert [(one.code, one.subject) for one in reasons] == [
        ("out_of_range", "model.layers.0.self_attn.q_proj")
    ]


def test_targets_that_cannot_carry_an_adapter(plain: Path, tmp_path: Path, check) -> None:
    assert ("unsupported_target", "model.embed_tokens") in check(
        copy(plain, tmp_path / "a", target_modules=["q_proj", "v_proj", "embed_tokens"])
    )
    assert ("unsupported_target", "model.layers.1.input_layernorm") in check(
        copy(plain, tmp_path / "b", target_modules=r".*(q_proj|v_proj|input_layernorm)")
    )
    assert ("no_target", "target_modules") in check(
        copy(plain, tmp_path / "c", target_modules=["nothing"])
    )


def test_dora_and_bias_tensors_need_their_switch(bases, tmp_path: Path, refusals_of) -> None:
    base = bases("qwen2")
    dora = make_lora(base, tmp_path / "dora", use_dora=True, bias="lora_only")
    off = copy(dora, tmp_path / "off", use_dora=False, bias="none")
    subjects = {(one.code, one.subject.rpartition("proj.")[2]) for one in refusals_of(base, off)}
    assert subjects == {
        ("unknown_tensor", "lora_magnitude_vector"),
        ("unknown_tensor", "base_layer.bias"),
    }
    plain = make_lora(base, tmp_path / "plain")
    on = copy(plain, tmp_path / "on", use_dora=True, bias="all")
    subjects = {(one.code, one.subject.rpartition("proj.")[2]) for one in refusals_of(base, on)}
    assert subjects == {
        ("missing_tensor", "lora_magnitude_vector"),
        ("missing_tensor", "base_layer.bias"),
        ("missing_tensor", "bias"),
    }


def test_biases_of_modules_that_are_no_sites(folder: Path, check) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "all"}))
    name = "base_model.model.model.norm.bias"
    change_tensors(folder, **{key(name): torch.zeros(32)})
    assert check(folder) == {("unknown_tensor", name)}


def test_a_copy_of_the_base_must_equal_it(
    bases, tmp_path: Path, compile_folder, refusals_of
) -> None:
    base = bases("llama")
    folder = make_lora(base, tmp_path / "a", target_modules=["lm_head"])
    name = "base_model.model.lm_head.base_layer.weight"
    tensors = load_file(folder / WEIGHTS)
    assert name in tensors, "peft saves it"
    with_copy = compile_folder(base, folder).manifest
    tensors[name] = tensors[name].bfloat16()
    save_file(tensors, folder / WEIGHTS)
    compile_folder(base, folder)
    tensors[name] = tensors[name].float()
    save_file(tensors, folder / WEIGHTS)
    assert [(one.code, one.subject) for one in refusals_of(base, folder)] == [
        ("base_differs", name)
    ]
    del tensors[name]
    save_file(tensors, folder / WEIGHTS)
    without = compile_folder(base, folder).manifest
    assert with_copy.digest == without.digest, "an equal copy has no effect"


def test_a_bias_beside_a_copied_weight_is_a_copy_too(
    bases, tmp_path: Path, compile_folder, refusals_of
) -> None:
    """As peft saves the output projection of GPT-J."""
    base = bases("qwen2")
    folder = make_lora(base, tmp_path / "a", target_modules=["q_proj"])
    without = compile_folder(base, folder).manifest
    state = base.fresh_model().state_dict()
    path = "model.layers.0.self_attn.q_proj"
    tensors = load_file(folder / WEIGHTS)
    for part in ("weight", "bias"):
        tensors[f"base_model.model.{path}.base_layer.{part}"] = state[f"{path}.{part}"].clone()
    save_file(tensors, folder / WEIGHTS)
    assert compile_folder(base, folder).manifest.digest == without.digest
    name = f"base_model.model.{path}.base_layer.bias"
    tensors[name] += 0.5
    save_file(tensors, folder / WEIGHTS)
    assert [(one.code, one.subject) for one in refusals_of(base, folder)] == [
        ("unknown_tensor", name)
    ]


def test_a_base_trained_in_bfloat16_equals_its_float32_copy(
    bases, tmp_path, compile_folder
) -> None:
    base = bases("llama-bf16")
    compile_folder(base, make_lora(base, tmp_path / "a", target_modules=["lm_head"]))


def test_other_kinds(plain: Path, tmp_path: Path, check) -> None:
    for number, kind in enumerate(["PROMPT", "lora", None, 3, {"a": 1}]):
        changed = copy(plain, tmp_path / str(number), peft_type=kind)
        assert check(changed) == {("unsupported_kind", "peft_type")}


def raw_file(folder: Path, header: bytes, data: bytes = b"") -> Path:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data)
    return folder


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape or [(end - begin) // 4], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"", 0),
        (b"[]", 0),
        (b"{", 0),
        (b"[" * 100_000, 0),
        (DUPLICATED, 4),
        (json.dumps({"a": entry(0, 8)}).encode(), 4),
        (json.dumps({"a": entry(0, 4)}).encode(), 8),
        (json.dumps({"a": entry(4, 8)}).encode(), 8),
        (json.dumps({"a": entry(0, 8), "b": entry(4, 12)}).encode(), 12),
        (json.dumps({"a": entry(0, 4, [2])}).encode(), 4),
        (json.dumps({"a": entry(0, 4, [-1])}).encode(), 4),
        (json.dumps({"a": entry(0, 4, [1 << 60, 1 << 60])}).encode(), 4),
        (json.dumps({"a": entry(0, 4, dtype="F33")}).encode(), 4),
        (json.dumps({"a": {**entry(0, 4), "more": 1}}).encode(), 4),
        (json.dumps({"a": 3}).encode(), 4),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 5000 + b"]}}", 4),
    ],
)  # fmt: skip
def test_malformed_weight_files(folder: Path, check, header: bytes, size: int) -> None:
    assert check(raw_file(folder, header, bytes(size))) == {("invalid_file", WEIGHTS)}


def test_truncated_weight_files(folder: Path, check) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for length in (0, 7, 8, 100, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:length])
        assert check(folder) == {("invalid_file", WEIGHTS)}
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    assert check(folder) == {("invalid_file", WEIGHTS)}


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b'{"r":1,"r":2}', b'{"r":NaN}', b"\xff", b"[" * 99999]
)
def test_malformed_configs(folder: Path, check, text: bytes) -> None:
    (folder / "adapter_config.json").write_bytes(text)
    assert check(folder) == {("invalid_file", "adapter_config.json")}


def test_missing_files_and_pickles(folder: Path, check) -> None:
    (folder / WEIGHTS).unlink()
    assert check(folder) == {("missing_file", WEIGHTS)}
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04never opened")
    assert check(folder) == {("pickle", "adapter_model.bin")}
    (folder / "adapter_config.json").unlink()
    assert check(folder) == {
        ("pickle", "adapter_model.bin"),
        ("missing_file", "adapter_config.json"),
    }


def test_large_configs(folder: Path, check) -> None:
    assert check(folder, max_config_bytes=100) == {("invalid_file", "adapter_config.json")}


def test_everything_is_reported_together(plain: Path, tmp_path: Path, check) -> None:
    folder = copy(
        plain, tmp_path / "a", layer_replication=[[0, 1]], init_lora_weights="pissa", r="4"
    )
    (folder / "tokenizer.json").write_text("{}")
    assert {code for code, _ in check(folder)} == {
        "unsupported_field",
        "unconverted_init",
        "invalid_field",
        "tokenizer_differs",
    }


def test_dora_on_weights_that_only_a_loaded_base_has_is_left_to_peft(
    bases, tmp_path, compile_folder
) -> None:
    from dataclasses import replace

    base = bases("llama")
    sites = tuple(replace(site, weight=None) for site in base.description.sites)
    blind = replace(base, description=replace(base.description, sites=sites))
    assert not compile_folder(blind, make_lora(base, tmp_path / "plain")).needs_peft
    assert compile_folder(blind, make_lora(base, tmp_path / "dora", use_dora=True)).needs_peft


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_may_lie_at_odd_offsets(base, folder: Path, compile_folder, dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    aligned = compile_folder(base, folder)
    data = (folder / WEIGHTS).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)
    assert len(header) % 2 == 1
    odd = compile_folder(base, raw_file(folder, header, data[8 + length :]))
    assert Path(odd.compiled).read_bytes() == Path(aligned.compiled).read_bytes()
