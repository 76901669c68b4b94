"""One tiny base on which adapters of any kind are compiled and served by the real parts."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from service.adapters.limits import AdapterLimits
from service.base import Quantization
from service.compiler.compile import run_job
from service.compiler.job import Job, Result
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.work import Work
from service.core import AdapterRef
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import SIZES, make_base, make_tokenizer
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import (
    KIND_VARIANTS,
    LLAMA,
    KindVariant,
    Targets,
    make_kind,
)
from tests.contract.quantised import load_rounded

PROBE = [11, 5, 9, 40, 17, 6, 77, 30]
"""Holds the tokens and the invocation that some variants are about."""
TOLERANCE = 1e-4
OWN: dict[str, dict[str, Any]] = {
    "biased": {"attention_bias": True, "mlp_bias": True},
    "wide": {
        "vocab_size": 160,
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
    },
}
"""Llamas beside those of the contract: with biases everywhere, and larger in every direction."""


@dataclass
class Bench:
    folder: Path
    root: Path
    base: LoadedBase
    model: PreTrainedModel
    """For peft, in the run dtype."""
    peft_base: PeftBase
    """As the compile server holds it, in the dtype of the file."""

    def make(self, variant: str | KindVariant, *, targets: Targets = LLAMA, **changed: Any) -> Path:
        if isinstance(variant, str):
            variant = KIND_VARIANTS[variant]
        return make_kind(self.folder, variant, self.new_folder(), targets, **changed)

    def fresh_model(self) -> PreTrainedModel:
        """peft changes what it is given."""
        return copy.deepcopy(self.model)

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
            ref = None if compiled is None else ref_of(compiled, self.base.description.dtype)
            request = run.add(ids, ref, max_tokens=1)
            run.run()
            rows = run.lane.logits[request]
            return torch.stack([rows[position] for position in sorted(rows)[-len(ids) :]])
        finally:
            run.close()

    def oracle_logits(self, folder: Path | None, ids: list[int] = PROBE) -> torch.Tensor:
        """By peft, solo; rows of virtual tokens are left out."""
        model: Any = self.fresh_model()
        extra: dict[str, Any] = {}
        if folder is not None:
            model = PeftModel.from_pretrained(model, folder).eval()
            config = (folder / "adapter_config.json").read_text()
            if "num_tasks" in config or "n_tasks" in config:
                extra["task_ids"] = torch.tensor([0])
        inputs = torch.tensor([ids])
        mask = torch.ones_like(inputs)
        with torch.no_grad():
            output = model(input_ids=inputs, attention_mask=mask, use_cache=False, **extra)
        return output.logits[0, -len(ids) :]

    def difference(self, compiled: Result, folder: Path, ids: list[int] = PROBE) -> float:
        """Between the engine and peft."""
        difference = self.logits(compiled, ids) - self.oracle_logits(folder, ids)
        return difference.abs().max().item()


@dataclass
class _Source:
    compiled: Result | None

    def open(self, ref: AdapterRef) -> BinaryIO:
        assert self.compiled is not None
        return Path(self.compiled.compiled).open("rb")


def make_bench(
    root: Path,
    architecture: str = "llama",
    quantization: Quantization = "none",
    run_dtype: str = "float32",
) -> Bench:
    """`architecture` may have the dtype of its file behind a slash."""
    name, _, dtype = architecture.partition("/")
    folder = root / "base"
    if name in OWN:
        _make_llama(folder, **OWN[name])
    else:
        make_base(name, folder)
    if dtype:
        _store_as(dtype, folder)
    options = LoadOptions(str(folder), device="cpu", dtype=run_dtype, quantization=quantization)
    if quantization == "none":
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, run_dtype), attn_implementation="eager"
        )
    else:
        model = load_rounded(folder, quantization, run_dtype)
    peft_base = load_peft_base(folder, quantization, run_dtype)
    return Bench(folder, root, load_base(options), model.eval(), peft_base)


def _store_as(dtype: str, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)


def _make_llama(folder: Path, **changed: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES | changed), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(5.0)
            elif name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def fresh(base: PeftBase) -> PeftBase:
    """A copy in place of a fork: peft changes what it is given."""
    model: PreTrainedModel = copy.deepcopy(base.model)
    return PeftBase(model, dict(model.named_modules()), base.is_quantized)


def ref_of(compiled: Result, dtype: str = "float32") -> AdapterRef:
    manifest = compiled.manifest
    assert manifest is not None
    return AdapterRef(
        "one",
        1,
        manifest.digest,
        compiled_bytes=manifest.payload_bytes(dtype),
        num_virtual_tokens=manifest.num_virtual_tokens,
        num_prefix_tokens=manifest.num_prefix_tokens,
        invocation_tokens=manifest.invocation_tokens,
        num_tasks=manifest.num_tasks,
    )


def _rest(job: Job) -> tuple[Any, ...]:
    return job.base, job.limits, job.is_base_strict
