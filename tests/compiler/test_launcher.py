"""A child may do whatever it likes: the parent gets a refusal, soon, and nothing else happens."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.adapters.limits import AdapterLimits
from service.compiler import child_environment, launcher
from service.compiler.compile_server import CompileServer
from service.compiler.launcher import ChildCompiler
from service.errors import AdapterRefused
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import TinyBase
from tests.compiler.edit import copy

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def base(bases) -> TinyBase:
    return bases("llama")


@pytest.fixture
def compile_in_child(base: TinyBase, tmp_path: Path):
    server = CompileServer(Path(base.description.folder))

    def run(source: Path, **limits):
        work = tmp_path / "work"
        work.mkdir()
        compiler = ChildCompiler(base.description, AdapterLimits(**limits), server)
        return compiler.compile(source, work)

    yield run
    server.close()


def code_of(caught: pytest.ExceptionInfo[AdapterRefused]) -> str:
    return caught.value.refusals[0].code


def impostor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Put another program in the place of the compiler."""
    package = tmp_path / "impostor" / "service" / "compiler"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(body)
    monkeypatch.setattr(child_environment, "_ROOT", tmp_path / "impostor")


def test_the_child_equals_the_compiler_in_this_process(
    base, compile_folder, compile_in_child, tmp_path: Path
) -> None:
    folder = make_lora(base, tmp_path / "a", use_dora=True)
    here, there = compile_folder(base, folder), compile_in_child(folder)
    assert there.manifest == here.manifest
    assert there.compiled.read_bytes() == Path(here.compiled).read_bytes()


def test_refusals_come_through(base, compile_in_child, tmp_path: Path) -> None:
    folder = copy(make_lora(base, tmp_path / "a"), tmp_path / "b", modules_to_save=["x"])
    with pytest.raises(AdapterRefused) as caught:
        compile_in_child(folder)
    assert caught.value.refusals[0].subject == "modules_to_save"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import os; os.abort()", "compile_failed"),
        ("import sys; sys.exit(3)", "compile_failed"),
        ("print('garbage')", "compile_failed"),
        ("print('{}')", "compile_failed"),
        ("print('[' * 100000)", "compile_failed"),
        ("", "compile_failed"),
        ("import os; os.kill(os.getpid(), 9)", "too_expensive"),
        ("import os, time\nos.fork()\nos.fork()\ntime.sleep(60)", "too_expensive"),
    ],
)
def test_a_child_that_misbehaves(
    compile_in_child, monkeypatch, tmp_path: Path, body: str, code: str
) -> None:
    impostor(monkeypatch, tmp_path, body)
    monkeypatch.setattr(launcher, "_GRACE_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(AdapterRefused) as caught:
        compile_in_child(tmp_path, compile_timeout_s=0.5)
    assert code_of(caught) == code
    assert time.monotonic() - started < 10
    assert str(tmp_path) not in str(caught.value)
    time.sleep(0.1)
    assert not [line for line in _children() if "service.compiler" in line], "none survives"


def _children() -> list[str]:
    commands = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if command.strip().endswith(str(os.getpid())) and fields[0] != "Z":
                commands.append(command)
    return commands


def test_the_environment_is_not_inherited(compile_in_child, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPERTOIRE_API_KEY", "secret")
    body = (
        f"import os, json; open({str(tmp_path / 'env')!r}, 'w').write(json.dumps(dict(os.environ)))"
    )
    impostor(monkeypatch, tmp_path, body)
    with pytest.raises(AdapterRefused):
        compile_in_child(tmp_path)
    assert "secret" not in (tmp_path / "env").read_text()


def test_a_regular_expression_that_never_ends(base, compile_in_child, tmp_path: Path) -> None:
    hostile = r"(([a-z_.0-9]+)+)+!"
    folder = copy(make_lora(base, tmp_path / "a"), tmp_path / "b", target_modules=hostile)
    started = time.monotonic()
    with pytest.raises(AdapterRefused) as caught:
        compile_in_child(folder, compile_timeout_s=1)
    assert code_of(caught) == "too_expensive"
    assert time.monotonic() - started < 10


def test_json_that_eats_memory(base, compile_in_child, tmp_path: Path) -> None:
    folder = copy(make_lora(base, tmp_path / "a"), tmp_path / "b")
    (folder / "tokenizer.json").write_text("[" + ",".join(["{}"] * 4_000_000) + "]")
    with pytest.raises(AdapterRefused) as caught:
        compile_in_child(folder, compile_memory_bytes=200 << 20)
    assert code_of(caught) == "too_expensive"


def test_a_huge_sparse_upload_is_judged_by_its_header(base, compile_in_child, tmp_path) -> None:
    """32 GiB of zeros that cost no disk: refused by shape, without reading them."""
    folder = copy(make_lora(base, tmp_path / "a"), tmp_path / "b")
    size = 32 << 30
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": entry})
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + size)
    with pytest.raises(AdapterRefused) as caught:
        compile_in_child(folder)
    assert {one.code for one in caught.value.refusals} == {"wrong_shape", "missing_tensor"}


def test_memory_follows_one_chunk_not_the_layer(bases, tmp_path: Path) -> None:
    """DoRA's norm over a matrix of 256 MiB under a limit of 200 MiB of private memory."""
    base = bases("llama")
    size = 8192
    folder = copy(make_lora(base, tmp_path / "a", use_dora=True), tmp_path / "b", r=4)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = ["big"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    prefix = "base_model.model.big"
    tensors = {
        f"{prefix}.lora_A.weight": torch.randn(4, size),
        f"{prefix}.lora_B.weight": torch.randn(size, 4),
        f"{prefix}.lora_magnitude_vector": torch.ones(size),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    weights = tmp_path / "big.bin"
    torch.ones(size, size).numpy().tofile(weights)
    site = base.description.sites[0]
    location = replace(
        site.weight, file=str(weights), offset=0, shape=(size, size), num_bytes=size * size * 4
    )
    big = replace(site, path="big", in_features=size, out_features=size, weight=location)
    description = replace(base.description, sites=(big,), modules=(("big", "Linear"),))
    work = tmp_path / "work"
    work.mkdir()
    limits = AdapterLimits(compile_memory_bytes=200 << 20)
    outcome = ChildCompiler(description, limits).compile(folder, work)
    assert outcome.manifest.kind == "dora"
