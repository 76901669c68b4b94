"""What the forks of the compile server can do."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.compiler.kinds.kind import Planner
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.plan import plan_tuner


@dataclass(frozen=True, slots=True)
class Work:
    base: PeftBase

    @classmethod
    def open(cls, folder: Path) -> "Work":
        torch.set_num_threads(1)
        return cls(load_peft_base(folder))

    def run(self, job: Job) -> Result:
        """Changes the base that it works on: once per process."""
        planner: Planner = partial(plan_tuner, self.base)
        return run_job(job, lambda _upload, _base: planner)
