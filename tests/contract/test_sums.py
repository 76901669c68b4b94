"""A weighted sum in a mixed batch equals the base with all deltas added to its weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef
from service.errors import InvalidRequest
from tests.contract.architectures import load_reference
from tests.contract.bench import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.test_mixed_batch import assert_equals_oracle, prompts

Weights = dict[str, float]

SUMS: dict[str, Weights] = {
    "same-sites": {"plain": 0.75, "all-linear": 0.5},
    "scalings": {"plain": 0.5, "rslora": 0.25, "rank-1": 2.0},
    "ranks-by-pattern": {"patterns": 0.5, "one-layer": 0.75, "all-linear": 1.0},
    "disjoint": {"plain": 1.0, "rank-1": 1.0},
    "negative": {"plain": -0.75, "rslora": 0.5, "patterns": -1.5},
    "nothing-left-of-one": {"plain": 0.0, "rslora": 1.0},
    "biases": {"lora-bias": 0.5, "plain": -1.0},
    "head": {"lm-head": 0.5, "one-layer": -0.5},
    "one-scaled": {"all-linear": 0.5},
    "one-taken-away": {"rslora": -1.0},
}
BY_PEFT = ("same-sites", "scalings", "disjoint")
"""What `add_weighted_adapter` can do: positive weights, no patterns, no biases."""


class SumOracle:
    """`W + sum_i w_i delta_i`, written into the weights of a copy of the base."""

    def __init__(self, bench: Bench, weights: Weights) -> None:
        self._model = load(bench)
        for variant, weight in weights.items():
            adapted = PeftModel.from_pretrained(load(bench), bench.folders[variant])
            for path, layer in adapted.get_base_model().named_modules():
                if isinstance(layer, LoraLayer):
                    add_delta(self._model.get_submodule(path), layer, weight)

    @torch.no_grad()
    def logits(
        self, token_ids: list[int], num_prompt: int | None = None, task: int | None = None
    ) -> torch.Tensor:
        logits: torch.Tensor = self._model(torch.tensor([token_ids]), use_cache=False).logits[0]
        return logits


def load(bench: Bench) -> PreTrainedModel:
    model = load_reference(bench.folder)
    if model.config.tie_word_embeddings:
        # A delta of the head must not reach the embedding.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


@torch.no_grad()
def add_delta(module: torch.nn.Module, layer: LoraLayer, weight: float) -> None:
    a, b = layer.lora_A["default"], layer.lora_B["default"]
    scaling = layer.scaling["default"]
    module.weight += weight * scaling * (b.weight @ a.weight)
    if b.bias is not None:
        delta = weight * scaling * b.bias
        module.bias = torch.nn.Parameter(delta if module.bias is None else module.bias + delta)


def sum_of(bench: Bench, weights: Weights) -> AdapterRef:
    return sum_ref(merge_parts(AdapterPart(bench.adapters[one], w) for one, w in weights.items()))


@dataclass
class WithSums(Bench):
    """A bench whose oracle also knows the sums, so that they mix with everything else."""

    def oracle(self, variant: str | None) -> object:
        if variant in SUMS and variant not in self.oracles:
            self.oracles[variant] = SumOracle(self, SUMS[variant])
        return super().oracle(variant)


@pytest.fixture(scope="module", params=["llama", "llama-tied", "qwen2"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WithSums:
    made = make_bench(request.param, "cpu", tmp_path_factory.mktemp(request.param))
    return WithSums(**vars(made))


@pytest.fixture
def harness(bench: Bench) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def build(**budgets: int) -> Harness:
        made.append(Harness(bench.base, bench.source, Budgets(**budgets)))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_sums_beside_their_parts_and_the_base(
    bench: WithSums, harness: Callable[..., Harness]
) -> None:
    run = harness(
        num_blocks=400,
        max_num_seqs=64,
        max_num_batched_tokens=64,
        max_mixed_prefill_tokens=40,
        device_bytes=4 << 20,
    )
    refs = {name: sum_of(bench, weights) for name, weights in SUMS.items()} | bench.adapters
    plan = [
        (run.add(prompt, refs.get(variant or ""), max_tokens=8), variant)
        for prompt, variant in zip(prompts(len(refs) + 1, 1), [None, *refs], strict=True)
    ]
    run.run()
    assert_equals_oracle(bench, run, plan)
    assert run.lane.most_adapters_in_step > len(SUMS)


def test_sums_that_evict_each_other(bench: WithSums, harness: Callable[..., Harness]) -> None:
    refs = {name: sum_of(bench, weights) for name, weights in SUMS.items()}
    largest = max(ref.compiled_bytes for ref in refs.values())
    run = harness(device_bytes=3 * largest // 2, host_bytes=2 * largest, max_num_seqs=4)
    plan = []
    for prompt, variant in zip(prompts(2 * len(SUMS), 2), [*SUMS, *SUMS], strict=True):
        plan.append((run.add(prompt, refs[variant], max_tokens=4), variant))
        run.step()
    run.run()
    assert_equals_oracle(bench, run, plan)
    assert run.engine.stats.tiers["device"].evictions > 0


@pytest.mark.parametrize("name", BY_PEFT)
def test_the_oracle_is_what_peft_calls_cat(bench: WithSums, name: str) -> None:
    weights = SUMS[name]
    names = list(weights)
    model = PeftModel.from_pretrained(load(bench), bench.folders[names[0]], names[0])
    for other in names[1:]:
        model.load_adapter(bench.folders[other], other)
    model.add_weighted_adapter(names, list(weights.values()), "sum", combination_type="cat")
    model.set_adapter("sum")
    ids = prompts(1, 7)[0] + [5, 9, 13]
    with torch.no_grad():
        expected = model.eval()(torch.tensor([ids]), use_cache=False).logits[0]
    torch.testing.assert_close(bench.oracle(name).logits(ids), expected, atol=2e-5, rtol=0)


def test_sums_differ_from_each_other_and_from_the_base(bench: WithSums) -> None:
    ids = prompts(1, 5)[0] + [7, 11, 13]
    logits = [bench.oracle(name).logits(ids) for name in [None, "plain", "rslora", *SUMS]]
    same = {(2, 2 + 1 + list(SUMS).index("nothing-left-of-one"))}
    for i, one in enumerate(logits):
        for j in range(i + 1, len(logits)):
            difference = (one - logits[j]).abs().max()
            assert (difference < 1e-5) == ((i, j) in same), (i, j)


def test_a_sum_that_can_never_fit_says_so(bench: WithSums, harness: Callable[..., Harness]) -> None:
    ref = sum_of(bench, {"all-linear": 1.0, "plain": 2.0})
    run = harness(device_bytes=ref.compiled_bytes // 2)
    last = run.outcomes[run.add([5, 6], ref)].last
    assert isinstance(last.error, InvalidRequest)
    assert f"{ref.compiled_bytes:,} bytes" in str(last.error)


def test_a_part_that_cannot_be_summed_fails_its_own_requests(
    bench: WithSums, harness: Callable[..., Harness]
) -> None:
    """The handlers refuse it; the engine does not rely on them."""
    run = harness()
    failing = run.add([5, 6], sum_of(bench, {"plain": 1.0, "dora": 0.5}))
    beside = run.add([7, 8, 9], bench.adapters["plain"])
    run.run()
    assert "more than low-rank" in str(run.outcomes[failing].last.error)
    assert_equals_oracle(bench, run, [(beside, "plain")])


def test_only_low_rank_variants_are_summable(bench: WithSums) -> None:
    summable = {name for name, ref in bench.adapters.items() if ref.is_summable}
    assert set(bench.adapters) - summable == {"bias", "dora", "dora-bias"} & set(bench.adapters)
