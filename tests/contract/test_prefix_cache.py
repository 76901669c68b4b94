"""Keys and values that others computed are as good as one's own: on equals off equals solo."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.architectures import VOCABULARY
from tests.contract.conftest import Bench
from tests.contract.harness import Harness
from tests.contract.lora_variants import Oracle
from tests.contract.test_mixed_batch import assert_equals_oracle, prompts

BEGINNING = random.Random(11).sample(range(3, VOCABULARY), 22)
"""Five blocks of four and a rest; longer than the sliding windows."""


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_common_beginnings_change_nothing(
    bench: Bench, harness: Callable[..., Harness], prefix_cache: bool
) -> None:
    """All begin alike, in rounds: the first computes, the others find what has not given way."""
    run = harness(num_blocks=200, prefix_cache=prefix_cache)
    variants = [None, *bench.adapters]
    plan = []
    for number, tail in enumerate(prompts(3 * len(variants), 4)):
        variant = variants[number % len(variants)]
        prompt = [*BEGINNING[: random.Random(number).randrange(9, 23)], *tail]
        plan.append((run.add(prompt, bench.adapters.get(variant or ""), max_tokens=6), variant))
        if len(plan) == len(variants):
            run.run()
        run.step()
    run.run()
    assert_equals_oracle(bench, run, plan)
    stats = run.engine.stats
    assert (stats.prefix_cache_hits > 100) == prefix_cache
    assert run.blocks.num_used == 0


def test_an_alora_continues_what_the_base_has_computed(
    bench: Bench, harness: Callable[..., Harness], tmp_path: Path
) -> None:
    """The terms are those of a LoRA; from where on they act is the engine's to decide."""
    invocation = (BEGINNING[17], BEGINNING[18])
    folder = shutil.copytree(bench.folders["all-linear"], tmp_path / "alora")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["alora_invocation_tokens"] = list(invocation)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    bench.oracles["alora"] = Oracle(bench.folder, folder)
    adapter = replace(bench.adapters["all-linear"], invocation_tokens=invocation)
    run = harness(num_blocks=90)
    plan = [(run.add(BEGINNING, max_tokens=4), None)]
    run.run()
    for ref, variant in ((adapter, "alora"), (bench.adapters["all-linear"], "all-linear")):
        plan.append((run.add([*BEGINNING, 5, 6, 7], ref, max_tokens=6), variant))
    absent = [one for one in BEGINNING if one not in invocation]
    plan.append((run.add(absent, adapter, max_tokens=6), "alora"))
    run.run()
    plan.append((run.add([*BEGINNING, 5, 6, 7, 8], adapter, max_tokens=6), "alora"))
    run.run()
    assert_equals_oracle(bench, run, plan)
    found = [run.outcomes[one].events[0].num_cached_tokens for one, _ in plan]
    assert found == [0, 16, 0, 16, 24]
