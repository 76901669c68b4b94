"""One tiny base on which adapters of any kind are compiled and served by the real parts."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers import PreTrainedModel

from service.adapters.limits import AdapterLimits
from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.work import Work
from service.core import AdapterRef
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import make_base
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import (
    KIND_VARIANTS,
    LLAMA,
    KindOracle,
    KindVariant,
    Targets,
    make_kind,
)

PROBE = [11, 5, 9, 40, 17, 6, 77, 30]
"""Holds the tokens and the invocation that some variants are about."""
TOLERANCE = 1e-4


@dataclass
class Bench:
    folder: Path
    root: Path
    base: LoadedBase
    peft_base: PeftBase

    def make(self, variant: str | KindVariant, *, targets: Targets = LLAMA, **changed: Any) -> Path:
        if isinstance(variant, str):
            variant = KIND_VARIANTS[variant]
        return make_kind(self.folder, variant, self.new_folder(), targets, **changed)

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root))

    def compile(self, folder: Path, **limits: Any) -> Result:
        """Raises `AdapterRefused`."""
        return self.run_job(folder, fresh(self.peft_base), **limits)

    def run_job(self, folder: Path, base: PeftBase, **limits: Any) -> Result:
        """On `base`, which is changed."""
        work = self.new_folder()
        description = self.base.description
        job = Job(str(folder), str(work), description, AdapterLimits(**limits), False)
        result = run_job(job)
        if not result.needs_peft:
            return result
        return Work(base).run(Job(str(folder), str(self.new_folder()), *_rest(job)))

    def logits(self, compiled: Result | None, ids: list[int] = PROBE) -> torch.Tensor:
        """`[T, vocab]` by the engine, alone in its batch; None = the base."""
        run = Harness(self.base, _Source(compiled), Budgets(device_bytes=8 << 20))
        try:
            request = run.add(ids, None if compiled is None else ref_of(compiled), max_tokens=1)
            run.run()
            rows = run.lane.logits[request]
            return torch.stack([rows[position] for position in sorted(rows)[-len(ids) :]])
        finally:
            run.close()

    def oracle_logits(self, folder: Path | None, ids: list[int] = PROBE) -> torch.Tensor:
        config = "" if folder is None else (folder / "adapter_config.json").read_text()
        return KindOracle(self.folder, folder).logits(ids, 0 if "num_tasks" in config else None)

    def difference(self, folder: Path, ids: list[int] = PROBE) -> float:
        """Between the engine and peft."""
        difference = self.logits(self.compile(folder), ids) - self.oracle_logits(folder, ids)
        return difference.abs().max().item()


@dataclass
class _Source:
    compiled: Result | None

    def open(self, ref: AdapterRef) -> BinaryIO:
        assert self.compiled is not None
        return Path(self.compiled.compiled).open("rb")


def make_bench(root: Path, architecture: str = "llama") -> Bench:
    folder = make_base(architecture, root / "base")
    base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32"))
    return Bench(folder, root, base, load_peft_base(folder))


def fresh(base: PeftBase) -> PeftBase:
    """A copy in place of a fork: peft changes what it is given."""
    model: PreTrainedModel = copy.deepcopy(base.model)
    return PeftBase(model, dict(model.named_modules()))


def ref_of(compiled: Result) -> AdapterRef:
    manifest = compiled.manifest
    assert manifest is not None
    return AdapterRef(
        "one",
        1,
        manifest.digest,
        compiled_bytes=manifest.payload_bytes("float32"),
        num_virtual_tokens=manifest.num_virtual_tokens,
        num_prefix_tokens=manifest.num_prefix_tokens,
        invocation_tokens=manifest.invocation_tokens,
        num_tasks=manifest.num_tasks,
    )


def _rest(job: Job) -> tuple[Any, ...]:
    return job.base, job.limits, job.is_base_strict
