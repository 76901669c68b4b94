"""A mixed batch on a base in 4 or 8 bits equals peft on the same base, alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from service.base import Quantization
from service.core import AdapterRef
from tests.compiler.tuners.bench import Bench, make_bench, ref_of
from tests.contract.harness import Budgets, Harness
from tests.contract.quantised import solo_logits, train
from tests.contract.targets import LLAMA
from tests.contract.test_mixed_batch import prompts
from tests.contract.variants import ALL, LORA

pytestmark = pytest.mark.filterwarnings("ignore")

TOLERANCE = 1e-4
FLIPPED = 0.05
"""In 8 bits an input on the edge of a step may be rounded the other way, which is chance."""
KINDS = ("lora-embedding-head", "ia3", "prompt", "prefix", "gralora", "lora-tokens")


VARIANTS = [*(name for name in LORA if not ALL[name].needs_bias), *KINDS]
"""Llama has no biases."""


@dataclass
class Served:
    bench: Bench
    refs: dict[str, AdapterRef] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    compiled: dict[str, Path] = field(default_factory=dict)

    @property
    def quantization(self) -> Quantization:
        return self.bench.base.description.quantization

    def open(self, ref: AdapterRef) -> BinaryIO:
        return self.compiled[ref.digest].open("rb")

    def add(self, name: str) -> None:
        folder, variant = self.bench.new_folder(), ALL[name]
        fields = variant.fields(LLAMA)
        train(self.bench.folder, self.quantization, variant.peft_type, folder, **fields)
        result = self.bench.compile(folder)
        self.folders[name], self.refs[name] = folder, ref_of(result)
        self.compiled[self.refs[name].digest] = Path(result.compiled)

    def difference(self, run: Harness, request: str, name: str | None) -> tuple[float, float]:
        """(from peft, from the base) over prompt and answer."""
        ids = [*run.prompts[request], *run.outcomes[request].token_ids[:-1]]
        rows = run.lane.logits[request]
        front = self.refs[name].num_front_tokens if name else 0
        expected, base = (
            solo_logits(self.bench.folder, self.quantization, folder, ids, None)
            for folder in (self.folders.get(name or ""), None)
        )
        found = [rows[front + position] for position in range(len(ids))]
        return (
            max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True)),
            (expected - base).abs().max().item(),
        )


@pytest.fixture(scope="module", params=["nf4", "int8"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp(request.param)
    made = Served(make_bench(root, quantization=request.param))
    for name in VARIANTS:
        made.add(name)
    return made


def test_a_mixed_batch_equals_peft_on_the_same_base(served: Served) -> None:
    budgets = Budgets(
        num_blocks=400,
        max_num_seqs=64,
        max_num_batched_tokens=64,
        max_mixed_prefill_tokens=40,
        device_bytes=8 << 20,
    )
    run = Harness(served.bench.base, served, budgets)
    names = [None, *served.refs]
    for ref in served.refs.values():  # In memory from here on: they do not trickle in.
        run.add([3], ref, max_tokens=1)
    run.run()
    plan = [
        (run.add(prompt, served.refs.get(name or ""), max_tokens=8), name)
        for prompt, name in zip(prompts(len(names), 7), names, strict=True)
    ]
    run.run()
    run.close()
    assert run.lane.most_adapters_in_step == len(names)
    flipped = []
    for request, name in plan:
        found, effect = served.difference(run, request, name)
        assert found < (FLIPPED if served.quantization == "int8" else TOLERANCE), name
        assert name is None or effect > 3 * FLIPPED, name
        flipped += [name] if found >= TOLERANCE else []
    assert len(flipped) <= 4, flipped
