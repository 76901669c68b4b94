"""What the forks of the compile server can do."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from service.base import Quantization
from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.compiler.kinds.kind import Planner
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.convert import run_conversion
from service.compiler.tuners.plan import plan_tuner
from service.compiler.tuners.reference import run_reference


@dataclass(frozen=True, slots=True)
class Work:
    base: PeftBase

    @classmethod
    def open(cls, folder: Path, quantization: Quantization = "none", dtype: str = "auto") -> "Work":
        torch.set_num_threads(1)
        return cls(load_peft_base(folder, quantization, dtype))

    def widened_bytes(self, job: Job) -> int:
        """What a job needs on top where float32 is served and the base's files are narrower."""
        parameters = [*self.base.model.parameters()]
        if self.base.is_quantized:
            return 0
        if job.base.dtype != "float32" or parameters[0].dtype is torch.float32:
            return 0
        return sum(parameter.numel() * 4 for parameter in parameters)

    def run(self, job: Job) -> Result:
        """Changes the base that it works on: once per process."""
        if job.task == "reference":
            return run_reference(self.base, job)
        if job.task == "convert":
            return run_conversion(self.base, job)
        planner: Planner = partial(plan_tuner, self.base)
        return run_job(job, lambda _upload, _base: planner)
