"""Keys and values that others computed are as good as one's own: on equals off equals solo."""

import random
from collections.abc import Callable

import pytest

from tests.contract.architectures import VOCABULARY
from tests.contract.bench import Bench
from tests.contract.harness import Harness
from tests.contract.test_mixed_batch import ROOMY, add, assert_equals_oracle

BEGINNING = random.Random(11).sample(range(10, VOCABULARY), 22)
"""Five blocks of four and a rest; longer than the sliding windows."""


def test_common_beginnings_change_nothing(bench: Bench, harness: Callable[..., Harness]) -> None:
    """All begin alike, in rounds: the first computes, the others find what has not given way."""
    run = harness(**ROOMY | {"num_blocks": 25 * len(bench.adapters)})
    variants = [None, *bench.adapters]
    plan = []
    for number, variant in enumerate(variants * 2):
        beginning = BEGINNING[: random.Random(number).randrange(9, 23)]
        plan.append((add(bench, run, variant, number, beginning, max_tokens=6), variant))
        if len(plan) == len(variants):
            run.run()
        run.step()
    run.run()
    assert_equals_oracle(bench, run, plan)
    stats = run.engine.stats
    assert (stats.prefix_cache_hits > 100) == (bench.base.lane.name != "solo")
    assert run.blocks.num_used == 0


def test_an_alora_continues_what_the_base_has_computed(
    bench: Bench, harness: Callable[..., Harness]
) -> None:
    if "alora" not in bench.adapters or bench.base.lane.name == "solo":
        pytest.skip("peft has no aLoRA here, or there are no blocks to share")
    adapter, other = bench.adapters["alora"], bench.adapters["all-linear"]
    invoked = [*BEGINNING[:17], *adapter.invocation_tokens, *BEGINNING[17:20]]
    run = harness(num_blocks=90)
    plan = [(run.add(invoked, max_tokens=4), None)]
    run.run()
    for ref, variant in ((adapter, "alora"), (other, "all-linear")):
        plan.append((run.add([*invoked, 7, 8, 7], ref, max_tokens=6), variant))
    plan.append((run.add(BEGINNING, adapter, max_tokens=6), "alora"))
    run.run()
    plan.append((run.add([*invoked, 7, 8, 7, 8], adapter, max_tokens=6), "alora"))
    run.run()
    assert_equals_oracle(bench, run, plan)
    found = [run.outcomes[one].events[0].num_cached_tokens for one, _ in plan]
    assert found == [0, 16, 0, 16, 24]
