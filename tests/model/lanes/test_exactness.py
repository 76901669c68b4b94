"""The base alone, through the real engine, in the lane that was found for it: every architecture
gives each sequence the logits that transformers computes for it alone."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from service.errors import ConfigurationError
from service.model.loader import LoadedBase, LoadOptions, load_base
from tests.contract.architectures import (
    ARCHITECTURES,
    LONG,
    SIZES,
    VOCABULARY,
    load_reference,
    make_base,
    save_base,
)
from tests.contract.harness import Budgets, Harness

TOLERANCE = 1e-4


@dataclass
class Bench:
    name: str
    base: LoadedBase
    oracle: torch.nn.Module

    @torch.no_grad()
    def expected(self, token_ids: list[int]) -> torch.Tensor:
        """`[T, vocab]`"""
        return self.oracle(torch.tensor([token_ids]), use_cache=False).logits[0]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(request.param, tmp_path_factory.mktemp(request.param))


def make_bench(name: str, folder: Path) -> Bench:
    make_base(name, folder)
    oracle = load_reference(folder)
    base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32"))
    return Bench(name, base, oracle)


@pytest.fixture
def harness(bench: Bench) -> Iterator[Harness]:
    """Too few rows and blocks: chunks, and preemption in mid-flight."""
    made = Harness(bench.base, None, Budgets(num_blocks=20, max_num_seqs=5))
    yield made
    made.close()


def prompts(seed: int) -> list[list[int]]:
    """Shorter and longer than a window, a block and a rotary threshold; one of a single token."""
    draw = random.Random(seed)
    lengths = [1, 3, 30, 9, 17, 26, 5]
    return [[draw.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


def assert_exact(bench: Bench, run: Harness, only: str | None = None) -> None:
    for request_id in [only] if only else run.outcomes:
        outcome = run.outcomes[request_id]
        ids = [*run.prompts[request_id], *outcome.token_ids[:-1]]
        expected = bench.expected(ids)
        rows = run.lane.logits[request_id]
        # What the prefix cache had has no rows; whatever followed read it.
        first = outcome.events[0].num_cached_tokens or 0
        actual = torch.stack([rows[position] for position in range(first, len(ids))])
        torch.testing.assert_close(actual, expected[first:], atol=TOLERANCE, rtol=0)


def test_the_self_test_finds_the_lane(bench: Bench) -> None:
    assert bench.base.lane.name == ARCHITECTURES[bench.name].lane
    assert bench.base.lane.can_chunk == (bench.name not in ("mamba", "jamba"))
    assert all(reason for _, reason in bench.base.lane.rejected)


def test_mixed_staggered_chunked_and_preempted_sequences_are_exact(
    bench: Bench, harness: Harness
) -> None:
    for prompt in prompts(1):
        harness.add(prompt, max_tokens=16)
        harness.step()
    harness.run()
    assert_exact(bench, harness)
    stats = harness.engine.stats
    assert harness.lane.num_mixed_steps > 3
    assert stats.num_preemptions > 0
    assert (stats.num_prefill_chunks > 7 + stats.num_preemptions) == bench.base.lane.can_chunk
    assert harness.blocks.num_used == 0
    assert set(harness.lane.forgotten) == set(harness.outcomes)
    assert not getattr(harness.lane._lane, "_states", None)


def test_long_and_short_sequences_are_rotated_apart(tmp_path: Path) -> None:
    """Also one that crosses the threshold while it is generated: it is long from the start."""
    bench = make_bench("phi3-longrope", tmp_path)
    run = Harness(bench.base, None, Budgets(num_blocks=100))
    crossing, short = prompts(2)[3], prompts(2)[1]
    for prompt, max_tokens in ((crossing, LONG), (short, 8), (crossing, LONG - 8), (crossing, 2)):
        run.add(prompt, max_tokens=max_tokens)
    run.run()
    assert_exact(bench, run)
    first, _, last, shortest = (run.lane.logits[one] for one in run.outcomes)
    assert (first[8] - last[8]).abs().max() > 100 * TOLERANCE
    assert (last[8] - shortest[8]).abs().max() < TOLERANCE
    run.close()


def test_a_long_sequence_shares_its_prompt_with_long_ones_only(tmp_path: Path) -> None:
    bench = make_bench("phi3-longrope", tmp_path)
    run = Harness(bench.base, None, Budgets(num_blocks=100))
    cached = []
    for max_tokens in (LONG, 2, LONG + 1, 3):
        one = run.add(prompts(2)[3], max_tokens=max_tokens)
        run.run()
        cached.append(run.outcomes[one].events[0].num_cached_tokens)
    assert cached == [0, 0, 8, 8]
    assert_exact(bench, run)
    run.close()


def test_a_base_with_dynamic_rotary_embeddings_runs_beyond_its_own_length(tmp_path: Path) -> None:
    """Each sequence by its own length, also after longer ones: transformers' module remembers the
    longest, so every oracle is a fresh one."""
    rope = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}
    sizes = SIZES | {"max_position_embeddings": 16}
    folder = save_base(LlamaConfig(**sizes, rope_parameters=rope), tmp_path)
    base = load_base(LoadOptions(str(folder), device="cpu", dtype="float32", max_model_len=64))
    assert base.description.max_model_len == 64
    run = Harness(base, None, Budgets(num_blocks=100))
    for number, length in enumerate((40, 17, 3, 30)):
        run.add(prompts(3)[2][:length], max_tokens=10 + number)
    run.run()
    run.close()
    for request_id in run.outcomes:
        bench = Bench("dynamic", base, load_reference(folder))
        assert_exact(bench, run, only=request_id)
    with pytest.raises(ConfigurationError, match="16 positions"):
        load_base(LoadOptions(str(folder), device="cpu", dtype="float32", max_model_len=65))
