"""Which rows a step takes, who is admitted, who has to give way."""

import pytest

from service.core import FinishReason
from service.step import Step
from tests.engine.machine import PAGE, Machine, expected_scores, expected_tokens, ref


def rows_of(step: Step) -> dict[str, int]:
    return {one.request_id: one.num_rows for one in step.segments}


def test_a_lone_prompt_is_prefilled_in_chunks_of_the_whole_budget() -> None:
    machine = Machine(max_num_batched_tokens=16)
    one = machine.add(40, max_tokens=1)
    machine.run()
    assert [rows_of(step)[one] for step in machine.runner.steps] == [16, 16, 8]
    assert [len(step.samples) for step in machine.runner.steps] == [0, 0, 1]
    assert machine.engine.stats.num_prefill_chunks == 3


def test_beside_a_decoding_sequence_prefill_has_the_smaller_budget() -> None:
    machine = Machine(max_num_batched_tokens=16, max_mixed_prefill_tokens=5)
    first = machine.add(3, max_tokens=20)
    machine.step()
    second = machine.add(12)
    machine.step()
    assert rows_of(machine.runner.steps[-1]) == {first: 1, second: 5}
    assert machine.runner.steps[-1].num_decode == 1


@pytest.mark.parametrize("is_beside_others", [True, False])
def test_beside_others_a_prompt_has_fewer_rows_the_further_it_is(is_beside_others: bool) -> None:
    machine = Machine(
        max_num_batched_tokens=9, max_mixed_prefill_tokens=8, double_position=8, num_blocks=100
    )
    if is_beside_others:
        machine.add(1, max_tokens=30)
        machine.step()
    long = machine.add(24)
    for _ in range(4):
        machine.step()
    given = [rows_of(step)[long] for step in machine.runner.steps if long in rows_of(step)]
    assert given == ([8, 4, 3, 2] if is_beside_others else [9, 9, 6, 1])


def test_far_into_a_prompt_there_is_still_a_row() -> None:
    machine = Machine(max_mixed_prefill_tokens=5, double_position=0.1)
    first = machine.add(1, max_tokens=30)
    machine.step()
    long = machine.add(20)
    for _ in range(16):
        machine.step()
    assert [rows_of(step).get(long) for step in machine.runner.steps[1:]] == [5, *[1] * 15]
    machine.run()
    machine.check_outputs()
    assert first


def test_decode_rows_leave_less_than_the_mixed_budget_when_there_are_many() -> None:
    machine = Machine(max_num_batched_tokens=6, max_mixed_prefill_tokens=5, max_num_seqs=9)
    for _ in range(5):
        machine.add(1, max_tokens=30)
    machine.step()
    late = machine.add(9)
    machine.step()
    assert machine.runner.steps[-1].num_decode == 5
    assert rows_of(machine.runner.steps[-1])[late] == 1


def test_without_chunks_a_prompt_longer_than_every_budget_is_computed_in_one_step() -> None:
    machine = Machine(max_num_batched_tokens=16, chunked_prefill=False)
    first = machine.add(3, max_tokens=20)
    machine.step()
    long = machine.add(40)
    machine.step()
    assert rows_of(machine.runner.steps[-1]) == {first: 1, long: 40}
    machine.run()
    machine.check_outputs()


def test_without_chunks_prompts_share_a_step_only_as_far_as_its_budget_goes() -> None:
    machine = Machine(max_num_batched_tokens=16, chunked_prefill=False)
    one, other, late = machine.add(9), machine.add(7), machine.add(1)
    machine.step()
    assert rows_of(machine.runner.steps[-1]) == {one: 9, other: 7}
    machine.step()
    assert rows_of(machine.runner.steps[-1])[late] == 1


def test_rows_say_from_the_start_how_long_their_sequence_may_become() -> None:
    machine = Machine()
    one = machine.add(5, max_tokens=4)
    none = machine.add(5, max_tokens=0)
    machine.run()
    finals = {
        (segment.request_id, segment.final_len)
        for step in machine.runner.steps
        for segment in step.segments
    }
    assert finals == {(one, 8), (none, 5)}


def test_decode_rows_come_first_sorted_by_slot_whatever_the_order_of_arrival() -> None:
    machine = Machine(max_num_batched_tokens=32, device_pages=4)
    for number in (1, 2, 3):
        machine.add(2, ref(number), max_tokens=3 if number == 1 else 30)
        machine.finish_load(f"digest{number}")
    while len(machine.scheduler.running) != 2:
        machine.step()
    machine.engine.unload("digest1")
    for number in (3, 4):  # The fourth takes the slot that the first has left.
        machine.add(2, ref(number), max_tokens=30)
    machine.finish_load("digest4")
    machine.step()
    machine.step()
    step = machine.runner.steps[-1]
    digests = [machine.pool.slots[slot] for slot in step.row_slot]
    assert step.num_decode == 4
    assert digests == ["digest4", "digest2", "digest3", "digest3"]


def test_no_more_sequences_run_than_allowed() -> None:
    machine = Machine(max_num_seqs=2, max_num_batched_tokens=64)
    for _ in range(5):
        machine.add(3)
    machine.step()
    assert len(machine.scheduler.running) == 2
    machine.run()
    machine.check_outputs()


def test_the_youngest_gives_its_blocks_back_and_still_gets_its_own_tokens() -> None:
    machine = Machine(num_blocks=6, block_size=4, max_num_batched_tokens=32)
    old, young = machine.add(7, max_tokens=14), machine.add(7, max_tokens=14)
    machine.run()
    assert machine.engine.stats.num_preemptions > 0
    assert machine.outcomes[old].finish_reason is FinishReason.LENGTH
    ends = [max(i for i, step in enumerate(machine.runner.steps) if one in rows_of(step))
            for one in (old, young)]  # fmt: skip
    assert ends[0] < ends[1]
    machine.check_outputs()
    machine.check_empty()


def test_a_sequence_that_fills_the_whole_store_comes_to_its_end() -> None:
    """As many tokens as the plan promises: one block position stays for the look ahead."""
    machine = Machine(num_blocks=5, block_size=4)
    one = machine.add(9, max_tokens=10)
    for _ in range(3):
        machine.add(6, max_tokens=9)
    machine.run()
    assert len(machine.outcomes[one].token_ids) == 10
    machine.check_outputs()


def test_a_preempted_sequence_is_first_in_line_again() -> None:
    machine = Machine(num_blocks=6, max_num_batched_tokens=32)
    machine.add(8, max_tokens=12)
    young = machine.add(8, max_tokens=12)
    later = machine.add(8, max_tokens=12)
    while not machine.engine.stats.num_preemptions:
        machine.step()
    assert [one.request_id for one in machine.scheduler.waiting] == [young, later]


@pytest.mark.parametrize("num_blocks", [6, 8, 64])
def test_prompt_logprobs_are_complete_also_after_chunks_and_preemption(num_blocks: int) -> None:
    machine = Machine(num_blocks=num_blocks, max_num_batched_tokens=6, max_mixed_prefill_tokens=2)
    scored = [machine.add(11, max_tokens=8, prompt_logprobs=0) for _ in range(3)]
    machine.run()
    assert (machine.engine.stats.num_preemptions > 0) == (num_blocks < 64)
    for one in scored:
        outcome = machine.outcomes[one]
        assert outcome.prompt_logprobs == expected_scores(outcome.request)
    machine.check_outputs()


def test_prompt_logprobs_of_one_token_are_a_single_none() -> None:
    machine = Machine()
    one = machine.add(1, prompt_logprobs=3)
    machine.run()
    assert machine.outcomes[one].prompt_logprobs == (None,)


@pytest.mark.parametrize("scored", [True, False])
def test_max_tokens_zero_ends_with_the_prompt_and_no_token(scored: bool) -> None:
    machine = Machine(max_num_batched_tokens=6)
    one = machine.add(15, max_tokens=0, prompt_logprobs=0 if scored else None)
    other = machine.add(3, max_tokens=9)
    machine.run()
    outcome = machine.outcomes[one]
    assert outcome.token_ids == ()
    assert outcome.finish_reason is FinishReason.LENGTH
    assert (outcome.prompt_logprobs is not None) == scored
    assert len(machine.outcomes[other].token_ids) == 9
    machine.check_outputs()
    machine.check_empty()


def test_a_stop_token_ends_a_sequence_and_is_its_last_token() -> None:
    machine = Machine()
    alone = machine.add(4, max_tokens=6)
    request = machine.outcomes[alone].request
    third = expected_tokens(request, 6)[2]
    machine.outcomes.clear()
    machine.engine.abort(alone)
    machine._numbers = iter([0])
    one = machine.add(4, max_tokens=6, stop_token_ids=(third,))
    machine.run()
    assert machine.outcomes[one].finish_reason is FinishReason.STOP
    assert machine.outcomes[one].token_ids == expected_tokens(request, 3)


def test_a_sequence_without_a_slot_is_passed_over_by_those_who_have_one() -> None:
    machine = Machine(device_pages=1, max_num_batched_tokens=64)
    machine.add(3, ref(1), max_tokens=20)
    machine.finish_load("digest1")
    machine.step()
    blocked = machine.add(3, ref(2))
    machine.finish_load("digest2")
    passing = machine.add(3)
    machine.step()
    running = [one.request_id for one in machine.scheduler.running]
    assert passing in running
    assert blocked not in running


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_blocked_sequence_is_overtaken_at_most_so_many_times(limit: int) -> None:
    machine = Machine(
        device_pages=1, max_num_batched_tokens=64, max_num_seqs=64, max_overtakes=limit
    )
    machine.add(3, ref(1), max_tokens=30)
    machine.finish_load("digest1")
    machine.step()
    blocked = machine.add(3, ref(2), max_tokens=2)
    machine.finish_load("digest2")
    later = [machine.add(3, max_tokens=2) for _ in range(8)]
    machine.run()
    first_step = {
        one: min(i for i, step in enumerate(machine.runner.steps) if one in rows_of(step))
        for one in (blocked, *later)
    }
    overtaking = [one for one in later if first_step[one] < first_step[blocked]]
    assert overtaking == later[:limit]


def test_without_overtaking_all_who_fit_are_still_admitted_in_one_step() -> None:
    machine = Machine(max_overtakes=0, max_num_batched_tokens=64)
    for _ in range(4):
        machine.add(3)
    machine.step()
    assert len(machine.scheduler.running) == 4


def test_a_large_prompt_is_not_starved_by_small_ones() -> None:
    machine = Machine(num_blocks=8, block_size=4, max_num_batched_tokens=32, max_overtakes=2)
    for _ in range(4):
        machine.add(5, max_tokens=3)
    machine.step()
    large = machine.add(27, max_tokens=2)
    small = [machine.add(5, max_tokens=3) for _ in range(20)]
    while machine.outcomes[large].finish_reason is None:
        machine.step()
    assert sum(machine.outcomes[one].finish_reason is not None for one in small) <= 2
    machine.run()
    machine.check_outputs()


def test_who_waits_for_an_adapter_that_is_evicted_meanwhile_becomes_cold_and_is_not_lost() -> None:
    machine = Machine(device_pages=1, host_bytes=PAGE, max_num_seqs=1)
    machine.add(3, ref(1), max_tokens=2)
    machine.run()
    machine.add(3, ref(2), max_tokens=3)
    machine.finish_load("digest2")  # Pushed 1 out of the host, and will push it off the device.
    waiting = machine.add(3, ref(1), max_tokens=2)
    assert not machine.residency.is_in_host("digest1")
    assert machine.residency.is_resident("digest1")
    machine.run()
    assert machine.loader.num_started == {"digest1": 2, "digest2": 1}
    assert machine.outcomes[waiting].finish_reason is FinishReason.LENGTH
    machine.check_outputs()
    machine.check_empty()


@pytest.mark.parametrize("num_steps", range(6))
def test_an_abort_frees_everything_at_once_wherever_the_sequence_stands(num_steps: int) -> None:
    machine = Machine(max_num_batched_tokens=4)
    one = machine.add(10, ref(1), max_tokens=8)
    machine.finish_load("digest1")
    for _ in range(num_steps):
        machine.step()
    machine.abort(one)
    machine.check_empty()
    before = len(machine.runner.steps)
    machine.step()
    assert len(machine.runner.steps) == before


def test_an_unknown_sequence_can_be_aborted() -> None:
    machine = Machine()
    machine.engine.abort("nobody")
    machine.check_empty()


def test_sequences_without_a_seed_get_seeds_of_their_own() -> None:
    machine = Machine(max_num_batched_tokens=32)
    for _ in range(3):
        machine.add(2, seed=None)
    machine.add(2, seed=7)
    machine.step()
    seeds = [one.seed for one in machine.runner.steps[-1].samples]
    assert seeds[3] == 7
    assert len(set(seeds)) == 4
