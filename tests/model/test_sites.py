"""The operator against its formula, and which modules may carry it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from service.base import LaneName
from service.core import NO_SLOT
from service.model.context import SlotRun, StepContext, runs_of
from service.model.lanes.lane import LaneChoice
from service.model.lanes.self_test import difference, make_tiny
from service.model.lanes.shrink import shrink
from service.model.memory import PastCost
from service.model.probe import probe
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from service.step import Step
from tests.contract.architectures import ARCHITECTURES, SIZES


def step(row_slot: list[int]) -> Step:
    count = len(row_slot)
    return Step([3] * count, [0] * count, row_slot, [], 0, [], [])


def test_runs_are_neighbouring_rows_of_one_slot() -> None:
    assert runs_of([NO_SLOT, 2, 2, 0, NO_SLOT, 2]) == [
        SlotRun(2, 1, 3),
        SlotRun(0, 3, 4),
        SlotRun(2, 5, 6),
    ]
    assert runs_of([]) == runs_of([NO_SLOT] * 3) == []


def test_tasks_part_the_rows_of_one_adapter() -> None:
    assert runs_of([2, 2, 2, NO_SLOT, 2], [0, 1, 1, 1, 0]) == [
        SlotRun(2, 0, 1),
        SlotRun(2, 1, 3, task=1),
        SlotRun(2, 4, 5),
    ]


def test_every_row_gets_its_own_terms() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 5)
    context = StepContext()
    site = Site("site", linear, "all", context)
    everything = Terms(a=torch.randn(2, 6), b=torch.randn(5, 2), c=torch.randn(5), d=torch.randn(5))
    low_rank = Terms(a=torch.randn(3, 6), b=torch.randn(5, 3))
    site.set_form(0, SiteForm(everything))
    site.set_form(4, SiteForm(low_rank))
    slots = [4, 0, 0, NO_SLOT, 1, 4]
    context.begin(step(slots), [], torch.tensor([]))
    x = torch.randn(1, 6, 6)
    with torch.inference_mode():
        actual = linear(x)[0]
        base = torch.nn.functional.linear(x[0], linear.weight, linear.bias)
    for row, slot in enumerate(slots):
        expected = base[row]
        if slot == 0:
            delta = everything.b @ (everything.a @ x[0, row])
            expected = everything.c * expected + delta + everything.d
        elif slot == 4:
            expected = expected + low_rank.b @ (low_rank.a @ x[0, row])
        torch.testing.assert_close(actual[row], expected, atol=1e-5, rtol=0)


def test_rows_that_do_not_match_the_step_are_an_error() -> None:
    context = StepContext()
    linear = torch.nn.Linear(4, 4)
    Site("site", linear, "all", context).set_form(0, SiteForm(Terms(d=torch.ones(4))))
    context.begin(step([0, 0]), [], torch.tensor([]))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="is not 2 rows"):
        linear(torch.randn(3, 4))


def test_the_probe_finds_all_and_wanted_rows() -> None:
    config = ARCHITECTURES["llama"].make_config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    found = probe(model)
    assert found.row_maps.pop("lm_head") == "wanted"
    assert set(found.row_maps.values()) == {"all"}
    num_layers = SIZES["num_hidden_layers"]
    assert len(found.row_maps) == 7 * num_layers + 2 * num_layers + len(["embed_tokens", "norm"])
    assert found.layers[0].num_heads == SIZES["num_key_value_heads"]


def test_norms_behind_the_attention_heads_are_sites_as_well() -> None:
    config = ARCHITECTURES["gemma3"].make_config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    found = probe(model).row_maps
    assert found["model.layers.0.self_attn.q_norm"] == "heads"
    assert found["model.layers.0.input_layernorm"] == "all"


def test_rows_behind_heads_get_their_own_terms() -> None:
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(6)
    context = StepContext()
    site = Site("site", norm, "heads", context, "norm")
    own = {"weight": torch.randn(6)}
    site.set_form(3, SiteForm(Terms(), site.private_copy(own)))
    context.begin(step([NO_SLOT, 3, 3]), [], torch.tensor([]))
    x = torch.randn(1, 2, 3, 6)
    with torch.inference_mode():
        actual = norm(x)
        base = torch.nn.functional.layer_norm(x, (6,))
    torch.testing.assert_close(actual[:, :, 0], base[:, :, 0])
    torch.testing.assert_close(actual[:, :, 1:], base[:, :, 1:] * own["weight"])


@pytest.mark.parametrize("lane", ["padded", "solo"])
def test_the_probe_finds_the_same_rows_in_every_lane(lane: LaneName) -> None:
    config = ARCHITECTURES["gpt2"].make_config()
    models = [AutoModelForCausalLM.from_config(config).eval() for _ in range(2)]
    found, ragged = probe(models[0], lane), probe(models[1])
    assert found.row_maps == ragged.row_maps
    assert found.layers == ragged.layers
    assert found.past_cost == ragged.past_cost


def test_states_cost_the_same_whatever_the_length() -> None:
    config = ARCHITECTURES["mamba"].make_config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    inner, layers = config.intermediate_size, config.num_hidden_layers
    states = layers * inner * (config.conv_kernel + config.state_size) * 4
    assert probe(model, "solo").past_cost == PastCost(0, states)


@pytest.mark.parametrize("lane", ["ragged", "padded", "solo"])
def test_a_module_that_sees_rows_in_an_order_of_its_own_is_no_site(lane: LaneName) -> None:
    config = ARCHITECTURES["llama"].make_config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    mlp = model.model.layers[0].mlp
    original = mlp.forward

    def by_size(x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, 1)
        order = rows.sum(-1).argsort()
        return original(rows[order].view(x.shape)).flatten(0, 1)[order.argsort()].view(x.shape)

    mlp.forward = by_size
    found = probe(model, lane).row_maps
    assert not any(path.startswith("model.layers.0.mlp.") for path in found)
    assert "model.layers.1.mlp.up_proj" in found


def test_attention_of_a_mixture_of_experts_carries_adapters_and_experts_do_not() -> None:
    config = shrink(MixtralConfig(num_local_experts=4))
    assert difference(make_tiny(config), LaneChoice("ragged")) < 1e-4
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    found = probe(model).row_maps
    assert found["model.layers.0.self_attn.q_proj"] == "all"
    assert not any("experts" in path for path in found)
