"""One architecture, and one adapter of every variant made for it by peft and compiled by us."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from service.core import AdapterRef
from service.errors import AdapterRefused
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import ARCHITECTURES, make_base
from tests.contract.compiling import CompiledFolders
from tests.contract.kind_variants import make_bare, make_kind
from tests.contract.oracle import Oracle
from tests.contract.support import Cell, spoken
from tests.contract.targets import Targets
from tests.contract.variants import ALL, BARE, LORA

KERNELS = Path(tempfile.gettempdir()) / "repertoire-test-kernels"
"""Compiled once for all runs."""
TOLERANCE = 1e-4
PROBE = [11, 5, 9, 40, 17, 6, 77, 30]
"""Holds the tokens and the invocation that some variants are about."""


@dataclass
class Bench:
    architecture: str
    folder: Path
    base: LoadedBase
    source: CompiledFolders
    targets: Targets
    adapters: dict[str, AdapterRef] = field(default_factory=dict)
    """By variant: those that are served."""
    folders: dict[str, Path] = field(default_factory=dict)
    oracles: dict[str | None, Oracle] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    """By variant: what became of it."""

    def oracle(self, variant: str | None) -> Oracle:
        if variant not in self.oracles:
            self.oracles[variant] = Oracle(self.folder, self.folders.get(variant or ""))
        return self.oracles[variant]

    def add(self, name: str, seed: int) -> Cell:
        cell = self.cells[name] = self._made_by_peft(name, seed) or self._compiled(name)
        return cell

    def _made_by_peft(self, name: str, seed: int) -> Cell | None:
        """None when peft makes it and runs it, and it changes something."""
        if name in BARE:
            self.folders[name] = make_bare(BARE[name], self.folder.parent / "adapters" / name)
            return None
        variant = ALL[name]
        has_biases = any(site.has_bias for site in self.base.description.sites)
        if variant.needs_bias and not has_biases:
            return Cell("absent", "The base has no biases.")
        folder = self.folder.parent / "adapters" / name
        try:
            make_kind(self.folder, variant, folder, self.targets, seed)
            self.folders[name] = folder
            logits = self.oracle(name).logits(PROBE, task=first_task(name))
        except Exception as error:
            self.folders.pop(name, None)
            return Cell("absent", spoken(error))
        unchanged = self.oracle(None).logits(PROBE)
        if (logits[-len(PROBE) :] - unchanged).abs().max() < 100 * TOLERANCE:
            return Cell("absent", "In peft it changes nothing.")
        return None

    def _compiled(self, name: str) -> Cell:
        try:
            self.adapters[name] = self.source.add(name, self.folders[name])
            assert name not in BARE, f"{name} is served; it needs variants of its own"
        except AdapterRefused as error:
            return Cell("refused", error.refusals[0].message)
        form = self.source.manifests[name].form
        return Cell("layer" if form == "module" else "terms")


def first_task(variant: str | None) -> int | None:
    return 0 if variant in ALL and ALL[variant].num_tasks else None


def make_bench(
    architecture: str,
    device: str,
    root: Path,
    variants: Iterable[str] = LORA,
    dtype: str = "float32",
) -> Bench:
    folder = make_base(architecture, root / architecture)
    options = LoadOptions(
        str(folder), device=device, dtype=dtype, native_folder=KERNELS, packs_weights=True
    )
    base = load_base(options)
    source = CompiledFolders(base, root / "work")
    bench = Bench(architecture, folder, base, source, ARCHITECTURES[architecture].targets)
    for seed, variant in enumerate(variants):
        bench.add(variant, seed)
    return bench
