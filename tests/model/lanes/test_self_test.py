"""The lane is found by trying: what would be wrong in a lane has to show in the tiny model."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers import (
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
)

from service.base import LaneName, LengthClasses
from service.errors import ConfigurationError
from service.model import alibi, attention, rotary
from service.model.lanes import self_test
from service.model.lanes.lane import LaneChoice
from service.model.lanes.self_test import TOLERANCE, choose_lane, difference, make_tiny
from service.model.lanes.shrink import small_configs

PHI3_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 48,
    "long_factor": [3.0] * 48,
    "original_max_position_embeddings": 4096,
}


def lane_difference(config: PreTrainedConfig, lane: LaneName, can_chunk: bool = True) -> float:
    return difference(make_tiny(next(small_configs(config))), LaneChoice(lane, can_chunk))


def longrope() -> PreTrainedConfig:
    return Phi3Config(
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_parameters=dict(PHI3_ROPE),
    )


def dynamic() -> PreTrainedConfig:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    return LlamaConfig(max_position_embeddings=2048, rope_parameters=rope)


@pytest.mark.parametrize("lane", ["ragged", "padded", "solo"])
@pytest.mark.parametrize("make", [LlamaConfig, MistralConfig, Gemma2Config, longrope, dynamic])
def test_attention_models_are_exact_in_every_lane(
    lane: LaneName, make: Callable[[], PreTrainedConfig]
) -> None:
    assert lane_difference(make(), lane) <= TOLERANCE


def test_attention_sinks_are_exact() -> None:
    assert lane_difference(GptOssConfig(num_local_experts=4), "ragged") <= TOLERANCE


def without(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Attention that does not see one thing that a layer asks for."""
    call = attention.PagedAttention.__call__

    def blind(self: Any, *args: Any, **options: Any) -> Any:
        return call(self, *args, **options | {option: None})

    monkeypatch.setattr(attention.PagedAttention, "__call__", blind)


@pytest.mark.parametrize(
    ("option", "make"),
    [
        ("sliding_window", MistralConfig),
        ("sliding_window", Gemma2Config),
        ("softcap", Gemma2Config),
        ("s_aux", lambda: GptOssConfig(num_local_experts=4)),
        ("alibi_slopes", BloomConfig),
    ],
)
def test_attention_that_misses_something_is_noticed(
    monkeypatch: pytest.MonkeyPatch, option: str, make: Callable[[], PreTrainedConfig]
) -> None:
    without(monkeypatch, option)
    assert lane_difference(make(), "ragged") > 100 * TOLERANCE


@pytest.mark.parametrize("lane", ["ragged", "padded", "solo"])
@pytest.mark.parametrize("make", [longrope, dynamic])
def test_rotary_embeddings_by_the_longest_position_of_a_call_are_noticed(
    monkeypatch: pytest.MonkeyPatch, lane: LaneName, make: Callable[[], PreTrainedConfig]
) -> None:
    monkeypatch.setattr(rotary, "rotate_by_row", lambda model, context: LengthClasses())
    assert lane_difference(make(), lane) > 100 * TOLERANCE


def test_bloom_without_its_replacement_falls_back_to_the_padded_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_lane(BloomConfig()).name == "ragged"
    monkeypatch.setattr(alibi, "use_interface", lambda model: None)
    choice = choose_lane(BloomConfig())
    assert choice.name == "padded"
    assert [name for name, _ in choice.rejected] == ["ragged"]


def test_a_state_that_is_lost_between_chunks_is_noticed() -> None:
    assert lane_difference(MambaConfig(), "solo") > 100 * TOLERANCE
    assert lane_difference(MambaConfig(), "solo", can_chunk=False) <= TOLERANCE


def test_an_architecture_that_no_lane_runs_is_refused_with_all_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(self_test, "difference", lambda tiny, choice: 0.5)
    with pytest.raises(ConfigurationError) as refusal:
        choose_lane(LlamaConfig())
    for part in ("'llama'", "ragged: logits differ by 0.5", "padded: ", "solo: "):
        assert part in str(refusal.value)


def test_a_difference_that_is_no_number_is_no_equality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "difference", lambda tiny, choice: float("nan"))
    with pytest.raises(ConfigurationError):
        choose_lane(LlamaConfig())
