from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from service.core import AdapterRef
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import ARCHITECTURES, make_base
from tests.contract.harness import Budgets, CompiledFolders, Harness
from tests.contract.lora_variants import VARIANTS, Oracle, few_variants, make_adapter

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@dataclass
class Bench:
    """One architecture with one adapter of every variant."""

    folder: Path
    base: LoadedBase
    source: CompiledFolders
    adapters: dict[str, AdapterRef]
    folders: dict[str, Path]
    oracles: dict[str | None, Oracle]

    def oracle(self, variant: str | None) -> Oracle:
        if variant not in self.oracles:
            self.oracles[variant] = Oracle(self.folder, self.folders.get(variant or ""))
        return self.oracles[variant]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


LLAMA_LIKE = [name for name, one in ARCHITECTURES.items() if one.is_llama_like]


@pytest.fixture(scope="module", params=LLAMA_LIKE)
def bench(
    request: pytest.FixtureRequest, device: str, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    return make_bench(request.param, device, tmp_path_factory.mktemp(request.param))


def make_bench(architecture: str, device: str, root: Path) -> Bench:
    """Llama's relatives have every variant, the others those that need no names of modules."""
    known = ARCHITECTURES[architecture]
    variants = VARIANTS if known.is_llama_like else few_variants(known.linears)
    folder = make_base(architecture, root / architecture)
    base = load_base(LoadOptions(str(folder), device=device, dtype="float32"))
    source = CompiledFolders(base, root / "work")
    folders, adapters = {}, {}
    for seed, (variant, fields) in enumerate(variants.items()):
        if "bias" in fields and not any(one.has_bias for one in base.description.sites):
            continue
        folder_of = root / "adapters" / variant
        folders[variant] = make_adapter(folder, variant, folder_of, seed, variants)
        adapters[variant] = source.add(variant, folders[variant])
    return Bench(folder, base, source, adapters, folders, {})


@pytest.fixture
def harness(bench: Bench) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def build(**budgets: int) -> Harness:
        made.append(Harness(bench.base, bench.source, Budgets(**budgets)))
        return made[-1]

    yield build
    for one in made:
        one.close()
