"""Sampling: equal logits draw equally in any company; filters against slow definitions."""

import math
import random
from dataclasses import replace

import pytest
import torch

from service.core import SamplingParams
from service.model.sampler import sample, score, uniform
from service.step import PromptScore, Sample

VOCABULARY = 50
NEUTRAL = SamplingParams(max_tokens=4)


def logits(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2


def spec(params: SamplingParams, *, seed: int = 1, position: int = 0, **fields: object) -> Sample:
    values = {"request_id": "r", "row": 0, "choice": 0, "prompt_ids": (1, 2), "output_ids": []}
    return Sample(params=params, seed=seed, position=position, **values | fields)


def allowed(row: torch.Tensor, params: SamplingParams) -> set[int]:
    """Token by token, as vLLM's documentation defines the filters."""
    probabilities = (row / params.temperature).softmax(-1).tolist()
    order = sorted(range(VOCABULARY), key=lambda one: -probabilities[one])
    kept, mass = set(), 0.0
    for rank, token_id in enumerate(order):
        is_within_k = params.top_k == 0 or rank < params.top_k
        is_within_p = mass < params.top_p or rank == 0
        is_likely = probabilities[token_id] >= params.min_p * probabilities[order[0]]
        if is_within_k and is_within_p and is_likely:
            kept.add(token_id)
        mass += probabilities[token_id]
    return kept


def test_a_draw_does_not_depend_on_the_company() -> None:
    rows = logits(20)
    specs = [spec(replace(NEUTRAL, temperature=0.5 + i / 10), seed=i) for i in range(20)]
    together = [one.token_id for one in sample(rows, specs)]
    alone = [sample(rows[i : i + 1], [specs[i]])[0].token_id for i in range(20)]
    order = list(range(20))
    random.Random(3).shuffle(order)
    shuffled = sample(rows[order], [specs[i] for i in order])
    assert together == alone
    assert [one.token_id for one in shuffled] == [together[i] for i in order]
    assert len(set(together)) > 3


def test_seed_choice_and_position_each_change_the_number() -> None:
    numbers = {uniform(s, c, p) for s in range(5) for c in range(5) for p in range(5)}
    assert len(numbers) == 125
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(7, 1, 2) == uniform(7, 1, 2)


def test_draws_follow_the_distribution() -> None:
    row = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    count = 4000
    drawn = sample(row.expand(count, -1), [spec(NEUTRAL, position=i) for i in range(count)])
    for token_id, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        found = sum(one.token_id == token_id for one in drawn) / count
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 1},
        {"top_k": 5},
        {"top_p": 0.3},
        {"top_p": 0.9},
        {"min_p": 0.2},
        {"top_k": 8, "top_p": 0.8, "min_p": 0.05, "temperature": 1.7},
    ],
)
def test_filters_leave_what_their_definition_leaves(fields: dict) -> None:
    params = replace(NEUTRAL, **fields)
    row = logits(1, seed=5)
    drawn = sample(row.expand(1500, -1), [spec(params, position=i) for i in range(1500)])
    expected = allowed(row[0], params)
    probabilities = (row[0] / params.temperature).softmax(-1)
    likely = {one for one in expected if probabilities[one] > 0.02}
    assert likely <= {one.token_id for one in drawn} <= expected


def test_temperature_zero_takes_the_best() -> None:
    rows = logits(4)
    greedy = sample(rows, [spec(replace(NEUTRAL, temperature=0.0))] * 4)
    assert [one.token_id for one in greedy] == rows.argmax(-1).tolist()


def test_penalties_and_bias() -> None:
    row = torch.zeros(1, VOCABULARY)
    row[0, 3], row[0, 4] = 2.0, 1.9
    greedy = replace(NEUTRAL, temperature=0.0)

    def best(output_ids: list[int], **fields: object) -> int:
        return sample(row, [spec(replace(greedy, **fields), output_ids=output_ids)])[0].token_id

    assert best([3]) == 3
    assert best([3], presence_penalty=0.2) == 4
    assert best([4], presence_penalty=0.2) == 3
    assert best([3, 3], frequency_penalty=0.06) == 4
    assert best([3], frequency_penalty=0.06) == 3
    assert best([3], repetition_penalty=1.5) == 4
    assert best([], logit_bias=((9, 5.0),)) == 9
    assert best([], logit_bias=((3, -100.0),)) == 4


def test_logprobs_are_of_the_raw_distribution() -> None:
    rows = logits(1)
    params = replace(NEUTRAL, temperature=0.1, logprobs=3, logit_bias=((7, 50.0),))
    token = sample(rows, [spec(params)])[0]
    expected = rows[0].log_softmax(-1)
    assert token.token_id == 7
    assert token.logprob.logprob == pytest.approx(expected[7].item())
    assert [one for one, _ in token.logprob.top] == expected.topk(3).indices.tolist()


def test_prompt_scores() -> None:
    rows = logits(2)
    scored = score(rows, [PromptScore("r", 0, 4, 0), PromptScore("r", 1, 5, 2)])
    expected = rows.log_softmax(-1)
    assert scored[0].logprob == pytest.approx(expected[0, 4].item())
    assert scored[0].top == ()
    assert len(scored[1].top) == 2


@pytest.mark.parametrize("temperature", [1e-5, 1e-20, 1e-40, 5e-324])
def test_a_tiny_temperature_takes_the_best(temperature: float) -> None:
    rows = logits(4)
    specs = [spec(replace(NEUTRAL, temperature=temperature), position=i) for i in range(4)]
    assert [one.token_id for one in sample(rows, specs)] == rows.argmax(-1).tolist()


@pytest.mark.parametrize("penalty", [5e-324, 1e-40, 1e-30])
def test_an_extreme_penalty_still_draws_a_token(penalty: float) -> None:
    row = logits(1).abs()
    params = replace(NEUTRAL, repetition_penalty=penalty)
    drawn = {
        sample(row, [spec(params, position=i, prompt_ids=(4, 5))])[0].token_id for i in range(20)
    }
    assert drawn <= {4, 5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_of_one_row_break_no_other(value: float, temperature: float) -> None:
    """An adapter's weights may be finite and still overflow."""
    rows = logits(3)
    params = replace(NEUTRAL, temperature=temperature, top_p=0.9, logprobs=2)
    specs = [spec(params, position=i) for i in range(3)]
    expected = [one.token_id for one in sample(rows, specs)]
    broken = rows.clone()
    broken[1] = value
    tokens = sample(broken, specs)
    found = [one.token_id for one in tokens]
    assert (found[0], found[2]) == (expected[0], expected[2])
    assert 0 <= found[1] < VOCABULARY
    numbers = [tokens[1].logprob.logprob, *(number for _, number in tokens[1].logprob.top)]
    assert all(map(math.isfinite, numbers))
