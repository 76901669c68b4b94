"""PEFT folders through the real compiler, without the cost of a server per base."""

import os
from pathlib import Path
from typing import BinaryIO

import torch

from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.compiler.answer import answer
from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.work import Work
from service.core import AdapterRef
from service.errors import AdapterRefused
from service.model.loader import LoadedBase


class CompiledFolders:
    """`AdapterSource` over compiled folders. What needs peft is compiled in a fork of this process,
    as the compile server does it."""

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
            result = self._run_forked(self._job(folder, work.with_name(work.name + "-peft")))
        if result.refusals:
            raise AdapterRefused(result.refusals)
        assert result.manifest is not None, result.crash or result.too_large
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

    def _run_forked(self, job: Job) -> Result:
        if self._peft_base is None:
            self._peft_base = load_peft_base(Path(self._base.description.folder))
        reply = Path(job.work) / "answer"
        child = os.fork()
        if child == 0:
            try:
                # The threads of the pool have not come along.
                torch.set_num_threads(1)
                reply.write_bytes(answer(job, Work(self._peft_base).run).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return Result.decode(reply.read_bytes())
