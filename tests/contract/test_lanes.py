"""One base in every lane: whatever adapters do to its modules and in front of its prompts is the
same, in one batch. The base is a Llama, which the self-test would always run in the ragged lane."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from service.base import LaneName
from service.core import AdapterRef
from service.errors import AdapterRefused
from service.model import loader
from service.model.lanes.lane import LaneChoice
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import VOCABULARY, make_base
from tests.contract.compiling import CompiledFolders
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import KIND_VARIANTS, make_kind
from tests.contract.oracle import Oracle

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-4
KINDS = (
    "lora-embedding-head", "lora-saved-norm", "lora-tokens-by-name", "alora", "ia3", "hra", "hira",
    "ln-tuning", "prompt", "multitask-prompt", "prefix",
)  # fmt: skip
"""Every kind of site, every row map, rows that are not the adapter's, and all that stands in front
of a prompt."""


@dataclass
class Bench:
    folder: Path
    base: LoadedBase
    source: CompiledFolders
    folders: dict[str, Path] = field(default_factory=dict)
    adapters: dict[str, AdapterRef] = field(default_factory=dict)

    def make(self, kind: str) -> None:
        self.folders[kind] = make_kind(
            self.folder, KIND_VARIANTS[kind], self.folder.parent / kind, seed=len(self.folders)
        )
        self.adapters[kind] = self.source.add(kind, self.folders[kind])


CHOICES = {
    "ragged": LaneChoice("ragged"),
    "padded": LaneChoice("padded"),
    "solo": LaneChoice("solo"),
    "solo-whole": LaneChoice("solo", can_chunk=False),
}


@pytest.fixture(scope="module", params=CHOICES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "choose_lane", lambda config: CHOICES[request.param])
        folder = make_base("llama", root / "base")
        base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32"))
    return Bench(folder, base, CompiledFolders(base, root / "work"))


def test_all_kinds_mixed_equal_peft_solo(bench: Bench) -> None:
    for kind in KINDS:
        bench.make(kind)
    run = Harness(
        bench.base, bench.source, Budgets(num_blocks=36, max_num_seqs=9, device_bytes=4 << 20)
    )
    draw, plan = random.Random(1), {}
    for kind in [None, *KINDS] * 2:
        prompt = [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, 25))]
        prompt += [5, 9, *(draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(3)))]
        ref = bench.adapters[kind] if kind else None
        task = 1 if ref and ref.num_tasks else 0
        plan[run.add(prompt, ref, task, max_tokens=12)] = kind, task
        run.step()
    run.run()
    run.close()
    for request_id, (kind, task) in plan.items():
        check(bench, run, request_id, kind, task)
    assert run.engine.stats.num_preemptions > 0
    assert run.lane.name == bench.base.lane.name


def check(bench: Bench, run: Harness, request_id: str, kind: str | None, task: int) -> None:
    ref = bench.adapters[kind] if kind else None
    outcome, num_front = run.outcomes[request_id], ref.num_front_tokens if ref else 0
    ids = [*run.prompts[request_id], *outcome.token_ids[:-1]]
    oracle = Oracle(bench.folder, bench.folders.get(kind or ""))
    task_of = task if ref and ref.num_tasks else None
    expected = oracle.logits(ids, len(run.prompts[request_id]), task_of)[-len(ids) :]
    # What the prefix cache had has no rows; whatever followed read it.
    first = outcome.events[0].num_cached_tokens or 0
    rows = run.lane.logits[request_id]
    actual = torch.stack([rows[num_front + index] for index in range(first, len(ids))])
    torch.testing.assert_close(actual, expected[first:], atol=TOLERANCE, rtol=0)


def test_a_second_attention_is_refused_where_attention_is_not_ours(bench: Bench) -> None:
    if bench.base.lane.name == "ragged":
        bench.make("adaption-prompt")
        return
    with pytest.raises(AdapterRefused, match=f"runs in the {bench.base.lane.name} lane"):
        bench.make("adaption-prompt")


@pytest.mark.parametrize("architecture", ["falcon", "jamba"])
def test_a_prefix_that_does_not_fit_the_attention_is_refused(
    tmp_path: Path, architecture: str
) -> None:
    """peft makes one for every head or layer that the config counts, and fails on it itself."""
    folder = make_base(architecture, tmp_path / architecture)
    base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32"))
    made = make_kind(folder, KIND_VARIANTS["prefix"], tmp_path / "prefix")
    with pytest.raises(AdapterRefused, match="heads and layers"):
        CompiledFolders(base, tmp_path / "work").add("prefix", made)


def test_the_lane_of_the_description_is_the_lane_of_the_base(bench: Bench) -> None:
    lane: LaneName = bench.base.description.lane
    assert lane == bench.base.lane.name
    assert len(bench.base.description.kv_layers) == 2
