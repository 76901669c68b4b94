"""PEFT folders through the real compiler, without the cost of a server per base."""

import copy
from pathlib import Path
from typing import BinaryIO

from transformers import PreTrainedModel

from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.compiler.compile import run_job
from service.compiler.job import Job
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.work import Work
from service.core import AdapterRef
from service.model.loader import LoadedBase


class CompiledFolders:
    """`AdapterSource` over compiled folders. peft changes the base that it is given: where the
    compile server forks, this takes a copy."""

    def __init__(self, base: LoadedBase, work: Path) -> None:
        self._base = base
        self._work = work
        self._files: dict[str, Path] = {}
        self._peft_base: PeftBase | None = None
        self.manifests: dict[str, Manifest] = {}
        """By name."""

    def add(self, name: str, folder: Path) -> AdapterRef:
        """Raises `AdapterRefused`."""
        work = self._work / f"{name}-{len(self._files)}"
        result = run_job(self._job(folder, work))
        if result.needs_peft:
            job = self._job(folder, work.with_name(f"{work.name}-by-peft"))
            result = Work(self._fresh_base()).run(job)
        assert result.manifest is not None
        manifest = self.manifests[name] = result.manifest
        self._files[manifest.digest] = Path(result.compiled)
        return AdapterRef(
            name,
            1,
            manifest.digest,
            compiled_bytes=manifest.payload_bytes(self._base.description.dtype),
            is_summable=manifest.is_summable,
            num_virtual_tokens=manifest.num_virtual_tokens,
            num_prefix_tokens=manifest.num_prefix_tokens,
            invocation_tokens=manifest.invocation_tokens,
            num_tasks=manifest.num_tasks,
        )

    def open(self, ref: AdapterRef) -> BinaryIO:
        return self._files[ref.digest].open("rb")

    def _job(self, folder: Path, work: Path) -> Job:
        work.mkdir(parents=True)
        return Job(str(folder), str(work), self._base.description, AdapterLimits(), False)

    def _fresh_base(self) -> PeftBase:
        if self._peft_base is None:
            self._peft_base = load_peft_base(Path(self._base.description.folder))
        model: PreTrainedModel = copy.deepcopy(self._peft_base.model)
        return PeftBase(model, dict(model.named_modules()))
