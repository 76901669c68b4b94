"""Promise 1 and 2: whatever is in the batch, each sequence gets what peft computes for it alone."""

import random
from collections.abc import Callable

import pytest
import torch

from tests.contract.architectures import VOCABULARY
from tests.contract.conftest import Bench
from tests.contract.harness import Harness

TOLERANCE = 1e-4


def prompts(count: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [
        [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, 30))] for _ in range(count)
    ]


def assert_equals_oracle(bench: Bench, run: Harness, plan: list[tuple[str, str | None]]) -> None:
    """Logits of every row within the tolerance; greedy tokens equal unless the oracle ties."""
    num_tokens = num_ties = 0
    for request_id, variant in plan:
        prompt, outputs = run.prompts[request_id], run.outcomes[request_id].token_ids
        expected = bench.oracle(variant).logits([*prompt, *outputs[:-1]])
        rows = run.lane.logits[request_id]
        # What the prefix cache had has no rows; whatever followed read it.
        first = run.outcomes[request_id].events[0].num_cached_tokens or 0
        actual = torch.stack([rows[position] for position in range(first, len(expected))])
        torch.testing.assert_close(actual, expected[first:], atol=TOLERANCE, rtol=0)
        for position, token_id in enumerate(outputs, start=len(prompt) - 1):
            best, second = expected[position].topk(2).values
            num_tokens += 1
            if best - second <= TOLERANCE:
                num_ties += 1
            else:
                assert token_id == expected[position].argmax().item()
    assert num_ties <= 0.02 * num_tokens


def test_adapters_differ_from_each_other_and_the_base(bench: Bench) -> None:
    ids = prompts(1, seed=5)[0] + [7, 11, 13]
    logits = {variant: bench.oracle(variant).logits(ids) for variant in [None, *bench.adapters]}
    names = list(logits)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            assert (logits[one] - logits[other]).abs().max() > 100 * TOLERANCE, (one, other)


def test_mixed_batch_equals_solo(bench: Bench, harness: Callable[..., Harness]) -> None:
    """Room for all: one batch holds every variant and the base, in prefill and in decode."""
    run = harness(
        num_blocks=400, max_num_seqs=64, max_num_batched_tokens=64, max_mixed_prefill_tokens=40
    )
    variants = [None, *bench.adapters]
    assert len(variants) >= 9
    plan = [
        (run.add(prompt, bench.adapters.get(variant or ""), max_tokens=20), variant)
        for prompt, variant in zip(prompts(2 * len(variants), 1), variants * 2, strict=True)
    ]
    run.run()
    assert_equals_oracle(bench, run, plan)
    assert run.lane.most_adapters_in_step >= 9
    assert run.lane.num_mixed_steps > 0


def test_pressure_changes_nothing(bench: Bench, harness: Callable[..., Harness]) -> None:
    """Too few blocks, slots and rows: chunks, preemption, eviction, slot reuse in mid-flight."""
    largest = max(ref.compiled_bytes for ref in bench.adapters.values())
    run = harness(
        num_blocks=33, device_bytes=3 * largest // 2, host_bytes=2 * largest, max_num_seqs=6
    )
    variants = [None, *bench.adapters]
    random.Random(3).shuffle(variants)
    plan = []
    for number, prompt in enumerate(prompts(3 * len(variants), 2)):
        variant = variants[number % len(variants)]
        ref = bench.adapters.get(variant or "")
        plan.append((run.add(prompt, ref, max_tokens=12), variant))
        run.step()
    run.run()
    assert_equals_oracle(bench, run, plan)
    stats = run.engine.stats
    assert stats.num_preemptions > 0
    assert stats.num_prefill_chunks > len(plan)
    assert stats.tiers["device"].evictions > 0
    assert stats.tiers["host"].evictions > 0
    assert run.blocks.num_used == 0


@pytest.mark.parametrize("variant", ["all-linear", "dora"])
def test_batch_of_one(bench: Bench, harness: Callable[..., Harness], variant: str) -> None:
    run = harness()
    plan = [(run.add(prompts(1, 9)[0], bench.adapters[variant]), variant)]
    run.run()
    assert_equals_oracle(bench, run, plan)
