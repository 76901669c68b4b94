"""How the native library is built, and what happens where it cannot be."""

import shutil
from pathlib import Path

import pytest
import torch

from service.model.native import library as library_module
from service.model.native.build import BuildFailed, build_library
from service.model.native.library import load_native
from tests.model.native.library import CPU, native_of


def test_any_driver_of_the_compiler_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    monkeypatch.setenv("CXX", "gcc")
    assert load_native(tmp_path, torch.float32, CPU) is not None


def test_without_a_compiler_torch_does_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert load_native(tmp_path, torch.float32, CPU) is None


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("term_tiles.h", "if (d) sum += load(d)", "if (d) sum -= load(d)"),
        ("term_tiles.h", "hidden += row * size + panel.first", "hidden += row * size"),
        ("linear.h", "totals[o] + widen(bias[o])", "totals[o] - widen(bias[o])"),
        ("functions.h", "x < 0 ? -far : far", "far"),
        ("attention.h", "position - window + 1 : 0", "position - window : 0"),
        ("attention.h", "scores += rounded<T>(", "scores -= rounded<T>("),
        ("attention_chunks.h", "position + 1 - first", "position + 2 - first"),
        ("attention_chunks.h", "call.oldest(position) - first", "0"),
        ("elementwise.h", "(mean + norm.eps)", "(mean)"),
        ("elementwise.h", "rounded<T>(imaginary * load_some(cos", "(imaginary * load_some(cos"),
    ],
)
def test_a_kernel_that_differs_from_its_twin_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, right: str, wrong: str
) -> None:
    change(monkeypatch, tmp_path, file, right, wrong)
    assert load_native(tmp_path / "kernels", torch.float32, CPU) is None


def test_a_kernel_that_rounds_elsewhere_than_its_twin_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change(monkeypatch, tmp_path, "elementwise.h", "= rounded<T>(silu(", "= (silu(")
    assert load_native(tmp_path / "kernels", torch.float32, CPU) is not None
    assert load_native(tmp_path / "kernels", torch.bfloat16, CPU) is None


def change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, right: str, wrong: str
) -> None:
    """Of the sources that are compiled."""
    native_of(torch.float32)
    sources = tmp_path / "sources"
    shutil.copytree(library_module._SOURCE.parent, sources)
    source = (sources / file).read_text()
    assert right in source
    (sources / file).write_text(source.replace(right, wrong))
    monkeypatch.setattr(library_module, "_SOURCE", sources / library_module._SOURCE.name)


def test_a_library_is_built_once_and_an_error_says_why(tmp_path: Path) -> None:
    native_of(torch.float32)
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }')
    first = build_library(source, tmp_path / "kernels")
    built = first.stat().st_mtime_ns
    assert build_library(source, tmp_path / "kernels") == first
    assert first.stat().st_mtime_ns == built
    source.write_text("no C++ at all")
    with pytest.raises(BuildFailed, match="error"):
        build_library(source, tmp_path / "kernels")
    assert len(list((tmp_path / "kernels").iterdir())) == 1
