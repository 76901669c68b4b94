"""`python -m service check`: the verdict of an upload, without a server."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView
from service.adapters.compiling import CompileOutcome
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.check import Checker, Verdict, check_source
from service.cli.parser import parse_command_line
from service.command_line import CheckArguments
from service.compiler.launcher import ChildCompiler
from service.errors import ConfigurationError
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import TinyBase, make_base
from tests.server import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def lora(base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(base, tmp_path_factory.mktemp("lora"))


@pytest.fixture
def checker(base: TinyBase) -> Checker:
    limits = AdapterLimits()
    compiler = ChildCompiler(base.description, limits)
    return Checker(base.description, compiler, limits, max_compiled_bytes=1 << 20)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever a check writes has to be here, and gone in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def changed(lora: Path, target: Path, **fields: Any) -> Path:
    target.mkdir()
    for path in lora.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | fields))
    return target


def codes(verdict: Verdict) -> set[tuple[str, str]]:
    return {(one.code, one.subject) for one in verdict.reasons}


def test_an_adapter_that_would_be_accepted(checker: Checker, lora: Path) -> None:
    before = {path: path.read_bytes() for path in lora.iterdir()}
    verdict = checker.check(lora)
    body = verdict.body()
    assert {path: path.read_bytes() for path in lora.iterdir()} == before
    assert body["accepted"] is True
    assert (body["kind"], body["form"], body["rank"]) == ("lora", "terms", 4)
    assert body["modules"] == {"term a": 6, "term b": 6}
    assert body["targets"] == ["q_proj", "v_proj"]
    # 3 layers, float32: A [4, 32] twice, B of the queries [32, 4] and of the values [16, 4].
    assert body["memory_bytes"] == 3 * 4 * (2 * 4 * 32 + 32 * 4 + 16 * 4)
    assert body["summable"] is True
    assert body["unused_files"] == ["README.md"]
    assert body["reasons"] == []
    text = "\n".join(verdict.lines())
    assert text.startswith("accepted: it would be served on tiny-base\n")
    assert "term a at 6, term b at 6" in text


def test_an_archive_is_judged_like_its_folder(checker: Checker, lora: Path, tmp_path: Path) -> None:
    archive = tmp_path / "lora.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(lora, "lora")
    assert checker.check(archive).body() == checker.check(lora).body()


def test_every_reason_is_told(checker: Checker, lora: Path, tmp_path: Path) -> None:
    folder = changed(lora, tmp_path / "broken", r=5, use_something_new=True, lora_alpha="x")
    verdict = checker.check(folder)
    assert not verdict.is_accepted
    assert {"use_something_new", "lora_alpha"} <= {subject for _, subject in codes(verdict)}
    text = "\n".join(verdict.lines())
    assert text.startswith("refused: it cannot be served exactly on tiny-base\n")
    for reason in verdict.reasons:
        assert f"{reason.code} ({reason.subject}): {reason.message}" in text
    assert {(one["code"], one["subject"]) for one in verdict.body()["reasons"]} == codes(verdict)


def test_another_base_is_a_warning_or_with_strict_base_a_reason(
    base: TinyBase, checker: Checker, lora: Path, tmp_path: Path
) -> None:
    folder = changed(lora, tmp_path / "other", base_model_name_or_path="acme/another")
    assert "acme/another" in checker.check(folder).body()["warnings"][0]
    strict = ChildCompiler(base.description, AdapterLimits(), is_base_strict=True)
    verdict = replace(checker, compiler=strict).check(folder)
    assert codes(verdict) == {("wrong_base", "base_model_name_or_path")}


def test_what_does_not_fit_is_refused(checker: Checker, lora: Path, tmp_path: Path) -> None:
    small = replace(checker, max_compiled_bytes=5000)
    assert codes(small.check(lora)) == {("too_large", "adapter_model.safetensors")}
    archive = tmp_path / "lora.zip"
    archive.write_bytes(b"x" * 100)
    narrow = replace(checker, limits=AdapterLimits(max_upload_bytes=99))
    assert codes(narrow.check(archive)) == {("too_large", "lora.zip")}


def test_a_file_that_is_no_archive_is_refused(checker: Checker, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    assert codes(checker.check(tmp_path / "note.txt")) == {("bad_archive", "archive")}


def test_nothing_to_check_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no folder or archive"):
        check_source(tmp_path / "missing")


def test_the_form_tells_terms_layers_and_what_acts_beside_them(base: TinyBase) -> None:
    view = TermView("float32", (1,), 0)
    sites = (
        SiteTerms("q", {"a": view, "b": view}),
        SiteTerms("v", {"a": view, "b": view, "d": view}),
        SiteTerms("o", layer={"module": "some"}),
        SiteTerms("norm", parameters={"weight": view}),
    )
    tables = {f"prefix.{layer}.{part}": view for layer in range(3) for part in ("key", "value")}
    header = CompiledHeader("d", "f", "float32", 64, sites, tables)
    manifest = Manifest("d", "odd", 1, ("q",), 1, (), (), form="module", num_prefix_tokens=7)
    outcome = CompileOutcome(manifest, Path(), (), Path(), ("First.", "Second."), ())
    verdict = Verdict(base.description, outcome, header)
    assert verdict.body()["modules"] == {
        "learned prefix of attention": 3,
        "peft's own layer": 1,
        "term a": 2,
        "term b": 2,
        "term d": 1,
        "weights of its own": 1,
    }
    text = "\n".join(verdict.lines())
    for expected in ("peft's own layer at 1", "prefix tokens     7", "First.; Second."):
        assert expected in text
    assert "tasks" not in text


def test_the_command_line_takes_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a server apply, but nobody has to make it safe to listen."""
    variables = {"BASE_MODEL": "demo/base", "MAX_LORA_RANK": "8", "HOST": "0.0.0.0"}
    clean = {"HOME": "/home/somebody"} | {f"REPERTOIRE_{k}": v for k, v in variables.items()}
    monkeypatch.setattr("os.environ", clean)
    parsed = parse_command_line(["check", "some/folder", "--dtype", "float32", "--json"])
    assert isinstance(parsed, CheckArguments)
    assert (parsed.source, parsed.is_json) == (Path("some/folder"), True)
    assert (parsed.settings.max_lora_rank, parsed.settings.dtype) == (8, "float32")
    for wrong in (["check"], ["check", "a", "b"], ["check", "a", "--port", "1"], ["verify", "a"]):
        with pytest.raises(ConfigurationError):
            parse_command_line(wrong)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if "REPERTOIRE" not in name}
    command = [sys.executable, "-m", "service", "check", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=240, check=False
    )


def test_exit_status_0_and_one_json_object() -> None:
    arguments = ["adapters_store/slug", "--base-model", "demo/demo-base", "--dtype", "float32"]
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    assert (body["accepted"], body["rank"], body["base"]) == (True, 16, "demo-base")


def test_exit_status_1_and_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(str(tmp_path / "empty"), "--base-model", "demo/demo-base")
    assert result.returncode == 1, result.stderr
    assert "missing_file (adapter_config.json)" in result.stdout
    assert "missing_file (adapter_model.safetensors)" in result.stdout


def test_exit_status_2_when_it_cannot_be_found_out() -> None:
    """A folder, but of no model."""
    result = run("adapters_store/slug", "--base-model", "docker")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("repertoire: base_model: ")
