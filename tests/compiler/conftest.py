from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.limits import AdapterLimits
from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.errors import AdapterRefused, Refusal
from tests.adapters.tiny_base import TinyBase, make_base

BASES = {
    "llama": {"architecture": "llama"},
    "llama-tied": {"architecture": "llama", "is_tied": True},
    "llama-bf16": {"architecture": "llama", "dtype": "bfloat16"},
    "qwen2": {"architecture": "qwen2"},
}


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TinyBase]:
    made: dict[str, TinyBase] = {}

    def get(name: str) -> TinyBase:
        if name not in made:
            made[name] = make_base(tmp_path_factory.mktemp(name), **BASES[name])
        return made[name]

    return get


@pytest.fixture
def compile_folder(tmp_path: Path) -> Callable[..., Result]:
    """Runs the compiler in this process."""

    def run(
        base: TinyBase, source: Path, *, dtype: str = "float32", strict: bool = False, **limits
    ):
        work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
        work.mkdir()
        description = replace(base.description, dtype=dtype)
        return run_job(Job(str(source), str(work), description, AdapterLimits(**limits), strict))

    return run


@pytest.fixture
def refusals_of(compile_folder: Callable[..., Result]) -> Callable[..., tuple[Refusal, ...]]:
    def run(base: TinyBase, source: Path, **options) -> tuple[Refusal, ...]:
        with pytest.raises(AdapterRefused) as caught:
            compile_folder(base, source, **options)
        return caught.value.refusals

    return run
