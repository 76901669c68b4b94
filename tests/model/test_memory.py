"""Budgets from free memory, and the sentence when they do not suffice."""

import pytest
import torch

from service.errors import ConfigurationError
from service.model import memory
from service.model.memory import MemoryOptions, PastCost, plan_memory

PER_TOKEN = 2 * 64 * 4
"""Two layers, 64 elements of 4 bytes."""
PER_BLOCK = 16 * PER_TOKEN
KEYS_AND_VALUES = PastCost(PER_TOKEN)
FREE = 1 << 30


@pytest.fixture(autouse=True)
def _free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free_bytes", lambda device, utilization: FREE)


def plan(cost: PastCost = KEYS_AND_VALUES, **changes: int | None) -> memory.MemoryPlan:
    values = {
        "max_model_len": 100,
        "max_num_seqs": 4,
        "block_size": 16,
        "kv_bytes": None,
        "device_adapter_bytes": None,
        "gpu_memory_utilization": 0.9,
    }
    options = MemoryOptions(**values | changes)
    return plan_memory(options, cost, torch.device("cpu"))


def test_no_more_is_taken_than_all_sequences_can_use() -> None:
    assert plan().num_blocks == 4 * 7
    assert plan().kv_bytes == 4 * 7 * PER_BLOCK


def test_what_is_asked_for_is_given_in_whole_blocks() -> None:
    found = plan(kv_bytes=9 * PER_BLOCK + 5, device_adapter_bytes=12345)
    assert (found.num_blocks, found.kv_bytes) == (9, 9 * PER_BLOCK)
    assert found.device_adapter_bytes == 12345


def test_adapters_take_a_share_of_the_free_memory_by_default() -> None:
    assert 0 < plan().device_adapter_bytes < FREE // 4


@pytest.mark.parametrize("max_model_len", [96, 100, 111])
def test_one_full_sequence_and_its_look_ahead_just_fit(max_model_len: int) -> None:
    assert plan(max_model_len=max_model_len, kv_bytes=7 * PER_BLOCK).num_blocks == 7
    with pytest.raises(ConfigurationError):
        plan(max_model_len=max_model_len, kv_bytes=7 * PER_BLOCK - 1)


def test_the_refusal_says_what_is_missing_and_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        plan(kv_bytes=3 * PER_BLOCK)
    sentence = str(refusal.value)
    for part in (f"{3 * PER_BLOCK:,} bytes", "48 tokens", "100", f"{7 * PER_BLOCK:,}", "kv_bytes"):
        assert part in sentence


def test_adapters_that_leave_no_memory_are_a_refusal_too() -> None:
    with pytest.raises(ConfigurationError, match="max_model_len"):
        plan(device_adapter_bytes=2 * FREE)


def test_states_are_set_aside_for_all_sequences_and_blocks_take_what_is_left() -> None:
    cost = PastCost(PER_TOKEN, per_sequence=1000)
    assert plan(cost).kv_bytes == 4 * (1000 + 7 * PER_BLOCK)
    found = plan(cost, kv_bytes=4 * 1000 + 8 * PER_BLOCK)
    assert (found.num_blocks, found.kv_bytes) == (8, 4 * 1000 + 8 * PER_BLOCK)


def test_a_model_that_keeps_only_states_never_runs_out_of_blocks() -> None:
    found = plan(PastCost(0, per_sequence=1000))
    assert (found.num_blocks, found.kv_bytes) == (4 * 7, 4 * 1000)


def test_states_that_do_not_fit_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="lower max_num_seqs"):
        plan(PastCost(0, per_sequence=1000), kv_bytes=3999)
