"""Kinds other than LoRA that come to A and B alone are summed exactly with it, in one batch."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import load_reference, make_base
from tests.contract.compiling import CompiledFolders
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import KIND_VARIANTS, make_kind
from tests.contract.lora_variants import make_adapter
from tests.contract.test_mixed_batch import assert_equals_oracle, prompts

pytestmark = pytest.mark.filterwarnings("ignore")

LOW_RANK = (
    "adalora", "delora", "loha", "lora-embedding", "lora-embedding-head", "qalora", "tinylora",
    "unilora", "vblora",
)  # fmt: skip
"""Kinds whose change of a weight is a low-rank product of its own matrices."""
WEIGHTS = (0.75, -1.5)
"""Of the kind, and of the LoRA beside it."""


class MergedOracle:
    """`W + sum_i w_i (merged_i - W)`: what peft itself writes into the weights, weighted."""

    def __init__(self, base: Path, weighted: list[tuple[Path, float]]) -> None:
        self._model = load_reference(base)
        original = {name: one.clone() for name, one in self._model.state_dict().items()}
        for folder, weight in weighted:
            merged = PeftModel.from_pretrained(load_reference(base), folder).merge_and_unload()
            state = merged.state_dict()
            with torch.no_grad():
                for name, tensor in self._model.state_dict().items():
                    tensor += weight * (state[name] - original[name])

    @torch.no_grad()
    def logits(
        self, token_ids: list[int], num_prompt: int | None = None, task: int | None = None
    ) -> torch.Tensor:
        logits: torch.Tensor = self._model(torch.tensor([token_ids]), use_cache=False).logits[0]
        return logits


@dataclass
class Bench:
    base: LoadedBase
    source: CompiledFolders
    sums: dict[str, AdapterRef]
    oracles: dict[str, MergedOracle]

    def oracle(self, name: str | None) -> MergedOracle:
        return self.oracles[name or ""]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("kinds")
    folder = make_base("llama", root / "llama")
    base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32"))
    source = CompiledFolders(base, root / "work")
    lora_folder = make_adapter(folder, "all-linear", root / "lora", 1)
    lora = source.add("lora", lora_folder)
    made = Bench(base, source, {}, {"": MergedOracle(folder, [])})
    for seed, name in enumerate(LOW_RANK):
        kind_folder = make_kind(folder, KIND_VARIANTS[name], root / name, seed=seed)
        ref = source.add(name, kind_folder)
        assert ref.is_summable, name
        parts = zip((ref, lora), WEIGHTS, strict=True)
        made.sums[name] = sum_ref(merge_parts(AdapterPart(*part) for part in parts))
        weighted = list(zip((kind_folder, lora_folder), WEIGHTS, strict=True))
        made.oracles[name] = MergedOracle(folder, weighted)
    return made


def test_sums_with_other_low_rank_kinds(bench: Bench) -> None:
    run = Harness(bench.base, bench.source, Budgets(num_blocks=400, device_bytes=4 << 20))
    plan = [
        (run.add(prompt, bench.sums.get(name or ""), max_tokens=8), name)
        for prompt, name in zip(prompts(len(bench.sums) + 1, 4), [None, *bench.sums], strict=True)
    ]
    run.run()
    run.close()
    assert_equals_oracle(bench, run, plan)
