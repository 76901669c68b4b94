"""What an image brings instead of a compiler."""

import ctypes
import platform
import shutil
from pathlib import Path

import pytest

from service.model import attention_twin, elementwise_twin, linear_twin, terms_twin
from service.model.native import (
    build as build_module,
    library as library_module,
)
from service.model.native.attention import NativeAttention
from service.model.native.build import BuildFailed, build_library, prebuild_library
from service.model.native.elementwise import NativeElementwise
from service.model.native.linear import NativeLinear
from service.model.native.targets import targets
from service.model.native.terms import NativeTerms
from tests.model.native.library import CPU

X86 = platform.machine() == "x86_64"
pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }')
    return source


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return prebuild_library(library_module._SOURCE, tmp_path_factory.mktemp("prebuilt"))


def test_the_kernels_equal_their_twins_on_every_processor_that_this_one_is(
    kernels: list[Path],
) -> None:
    assert len(set(kernels)) == len(targets()) >= 1
    can = build_module.processor()
    tried = [one for target, one in zip(targets(), kernels, strict=True) if target.needs <= can]
    assert tried
    for path in tried:
        library = ctypes.CDLL(str(path))
        for dtype in library_module.DTYPES:
            terms = NativeTerms(library, dtype)
            assert terms_twin.equals(terms, CPU)
            assert linear_twin.equals(NativeLinear(library, dtype), terms, CPU)
            assert attention_twin.equals(NativeAttention(library, dtype), CPU)
            assert elementwise_twin.equals(NativeElementwise(library, dtype), CPU)


def test_without_a_compiler_what_is_prebuilt_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernels: list[Path]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = build_library(library_module._SOURCE, tmp_path, kernels[0].parent)
    assert found in kernels
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not X86, reason="there is but one sort of processor here")
def test_the_fastest_that_the_processor_can_run_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path
) -> None:
    fastest, middle, slowest = targets()
    first, second, third = prebuild_library(small, tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    for can, library in ((fastest, first), (middle, second), (slowest, third)):
        monkeypatch.setattr(build_module, "processor", lambda can=can: can.needs | {"fpu"})
        assert build_library(small, tmp_path, tmp_path) == library
    monkeypatch.setattr(build_module, "processor", lambda: slowest.needs - {"avx2"})
    with pytest.raises(BuildFailed, match="this processor"):
        build_library(small, tmp_path, tmp_path)


def test_what_was_made_of_other_sources_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path
) -> None:
    prebuild_library(small, tmp_path)
    small.write_text('extern "C" int one() { return 2; }')
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildFailed):
        build_library(small, tmp_path, tmp_path)


def test_with_a_compiler_it_is_compiled_for_this_very_processor(
    tmp_path: Path, small: Path
) -> None:
    prebuild_library(small, tmp_path / "prebuilt")
    found = build_library(small, tmp_path / "cache", tmp_path / "prebuilt")
    assert found.parent == tmp_path / "cache"
