"""Promise 1 and 2: whatever is in the batch, each sequence gets what peft computes for it alone."""

import random
from collections.abc import Callable

import pytest
import torch

from tests.contract.architectures import VOCABULARY
from tests.contract.bench import PROBE, TOLERANCE, Bench, first_task
from tests.contract.harness import Harness
from tests.contract.variants import ALL

ROOMY = {
    "num_blocks": 3000,
    "max_num_seqs": 200,
    "max_num_batched_tokens": 300,
    "max_mixed_prefill_tokens": 240,
    "device_bytes": 32 << 20,
    "host_bytes": 64 << 20,
}


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
        ids = [*prompt, *outputs[:-1]]
        expected = bench.oracle(variant).logits(ids, len(prompt), run.tasks[request_id])
        # Rows of virtual tokens, which peft's model has as well, are compared too.
        end = run.num_front[request_id] + len(ids)
        rows = run.lane.logits[request_id]
        # What the prefix cache had has no rows; whatever followed read it.
        first = max(min(rows), end - len(expected))
        num_cached = run.outcomes[request_id].events[0].num_cached_tokens or 0
        assert first <= run.num_front[request_id] + num_cached
        actual = torch.stack([rows[position] for position in range(first, end)])
        torch.testing.assert_close(
            actual,
            expected[first - end :],
            atol=TOLERANCE,
            rtol=0,
            msg=lambda text: f"{variant}: {text}",  # noqa: B023
        )
        for row, token_id in zip(expected[-len(outputs) :], outputs, strict=True):
            best, second = row.topk(2).values
            num_tokens += 1
            if best - second <= TOLERANCE:
                num_ties += 1
            else:
                assert token_id == row.argmax().item(), variant
    assert num_ties <= max(1, 0.02 * num_tokens)


def add(
    bench: Bench,
    run: Harness,
    variant: str | None,
    number: int,
    beginning: list[int] | None = None,
    **params: object,
) -> str:
    """The prompt and the task of a number; every other prompt of an aLoRA invokes it."""
    prompt = [*(beginning or []), *prompts(1, number)[0]]
    if variant == "alora" and number % 2:
        at = random.Random(number).randrange(len(prompt) + 1)
        prompt[at:at] = bench.adapters[variant].invocation_tokens
    num_tasks = ALL[variant].num_tasks if variant else 0
    task = number % num_tasks if num_tasks else None
    return run.add(prompt, bench.adapters.get(variant or ""), task, **params)


def test_every_linear_module_of_the_table_carries_adapters(bench: Bench) -> None:
    sites = {one.path.rpartition(".")[2] for one in bench.base.description.sites}
    assert {*bench.targets.linears, bench.targets.head} <= sites


def test_adapters_differ_from_each_other_and_the_base(bench: Bench) -> None:
    """Otherwise the others could be served in place of one and nobody would notice."""
    logits = {
        variant: bench.oracle(variant).logits(PROBE, task=first_task(variant))[-len(PROBE) :]
        for variant in [None, *bench.adapters]
    }
    names = list(logits)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            assert (logits[one] - logits[other]).abs().max() > 100 * TOLERANCE, (one, other)


@pytest.mark.parametrize(("seed", "prefix_cache"), [(1, True), (2, False)])
def test_mixed_batch_equals_solo(
    bench: Bench, harness: Callable[..., Harness], seed: int, prefix_cache: bool
) -> None:
    """Room for all: one batch holds every variant and the base, in prefill and in decode."""
    run = harness(**ROOMY, prefix_cache=prefix_cache)
    variants = [None, *bench.adapters] * 2
    random.Random(seed).shuffle(variants)
    plan = [
        (add(bench, run, variant, 100 * seed + number, max_tokens=12), variant)
        for number, variant in enumerate(variants)
    ]
    run.run()
    assert_equals_oracle(bench, run, plan)
    assert run.lane.most_adapters_in_step >= len(bench.adapters)
    if bench.base.lane.can_chunk:
        assert run.lane.num_mixed_steps > 0


def test_pressure_changes_nothing(bench: Bench, harness: Callable[..., Harness]) -> None:
    """Too few blocks, slots and rows: chunks, preemption, eviction, slot reuse in mid-flight."""
    largest = max(ref.compiled_bytes for ref in bench.adapters.values())
    run = harness(
        num_blocks=28,
        device_bytes=5 * largest // 4,
        host_bytes=5 * largest // 4,
        max_num_seqs=6,
    )
    variants = [None, *bench.adapters]
    random.Random(3).shuffle(variants)
    plan = []
    for number, variant in enumerate(variants * (1 if len(variants) > 50 else 2)):
        plan.append((add(bench, run, variant, 200 + number, max_tokens=12), variant))
        run.step()
    run.run()
    assert_equals_oracle(bench, run, plan)
    stats = run.engine.stats
    assert stats.num_preemptions > 0
    assert (stats.num_prefill_chunks > len(plan)) or not bench.base.lane.can_chunk
    assert stats.tiers["device"].evictions > 0
    assert stats.tiers["host"].evictions > 0
    assert run.blocks.num_used == 0


def test_only_the_logits_that_the_engine_asks_for_give_the_same_tokens(
    bench: Bench, harness: Callable[..., Harness]
) -> None:
    """The other tests want those of every row, which hides which rows a head with an adapter sees;
    here most rows of a chunk want none."""
    run = harness(**ROOMY)
    run.lane.run = run.lane._lane.run
    plan = [
        (add(bench, run, variant, number, max_tokens=6), variant)
        for number, variant in enumerate([None, *bench.adapters])
    ]
    run.run()
    for request_id, variant in plan:
        prompt, outputs = run.prompts[request_id], run.outcomes[request_id].token_ids
        ids = [*prompt, *outputs[:-1]]
        logits = bench.oracle(variant).logits(ids, len(prompt), run.tasks[request_id])
        for token_id, row in zip(outputs, logits[-len(outputs) :], strict=True):
            assert row.max() - row[token_id] < TOLERANCE, variant


@pytest.mark.parametrize("variant", ["all-linear", "dora"])
def test_batch_of_one(bench: Bench, harness: Callable[..., Harness], variant: str) -> None:
    run = harness()
    plan = [(run.add(prompts(1, 9)[0], bench.adapters[variant]), variant)]
    run.run()
    assert_equals_oracle(bench, run, plan)
