"""What an adapter puts in front of a prompt, and where in it an aLoRA begins."""

import pytest

from service.core import NO_SLOT, FinishReason
from service.step import PrefixWrite, VirtualRow
from tests.engine.machine import Machine, expected_scores, ref

VIRTUAL = ref(1, num_virtual_tokens=5)
TASKS = ref(1, num_virtual_tokens=5, num_tasks=4)
PREFIX = ref(1, num_prefix_tokens=5)
INVOKED = ref(1, invocation_tokens=(5, 6))


def started(adapter: object, num_prompt: int = 3, **options: object) -> tuple[Machine, str]:
    machine = Machine(max_num_batched_tokens=options.pop("rows", 64), num_blocks=64)
    one = machine.add(num_prompt, adapter, **options)
    machine.finish_load("digest1")
    return machine, one


def test_virtual_tokens_are_rows_in_front_of_the_prompt() -> None:
    machine, one = started(VIRTUAL)
    machine.step()
    step = machine.runner.steps[0]
    assert step.token_ids == [0] * 5 + list(machine.outcomes[one].request.prompt_ids)
    assert step.positions == list(range(8))
    slot = step.row_slot[0]
    assert step.row_slot == [slot] * 8
    assert step.virtual_rows == [VirtualRow(index, slot, index) for index in range(5)]
    assert [sample.row for sample in step.samples] == [7]


def test_the_first_tokens_of_an_answer_have_the_positions_after_all_of_it() -> None:
    machine, _ = started(VIRTUAL, max_tokens=3)
    machine.run()
    assert [step.positions for step in machine.runner.steps[1:]] == [[8], [9]]
    assert [step.num_decode for step in machine.runner.steps[1:]] == [1, 1]
    assert [step.samples[0].position for step in machine.runner.steps] == [0, 1, 2]
    assert not any(step.virtual_rows for step in machine.runner.steps[1:])


def test_each_task_has_its_own_rows_of_the_table() -> None:
    machine, _ = started(TASKS, task_id=3)
    machine.step()
    assert [one.index for one in machine.runner.steps[0].virtual_rows] == [15, 16, 17, 18, 19]


def test_a_chunk_may_end_among_the_virtual_tokens() -> None:
    machine, _ = started(VIRTUAL, rows=3)
    machine.run()
    shown = [[(one.row, one.index) for one in step.virtual_rows] for step in machine.runner.steps]
    assert shown[:3] == [[(0, 0), (1, 1), (2, 2)], [(0, 3), (1, 4)], []]
    machine.check_outputs()


def test_a_learned_prefix_is_written_once_and_has_no_rows() -> None:
    machine, one = started(PREFIX, num_prompt=4, rows=3)
    machine.step()
    step = machine.runner.steps[0]
    assert step.positions == [5, 6, 7]
    assert step.segments[0].context_len == 5
    assert step.prefix_writes == [PrefixWrite(step.row_slot[0], step.segments[0].block_table)]
    machine.run()
    assert sum(len(one.prefix_writes) for one in machine.runner.steps) == 1
    assert machine.outcomes[one].finish_reason is FinishReason.LENGTH
    machine.check_outputs()


@pytest.mark.parametrize("adapter", [VIRTUAL, TASKS, PREFIX])
def test_what_lies_in_front_comes_back_after_preemption(adapter: object) -> None:
    machine = Machine(num_blocks=9, block_size=4, max_num_batched_tokens=32)
    for _ in range(3):
        machine.add(7, adapter, max_tokens=14, prompt_logprobs=0)
    machine.run()
    assert machine.engine.stats.num_preemptions > 0
    assert {one.finish_reason for one in machine.outcomes.values()} == {FinishReason.LENGTH}
    assert all(len(one.token_ids) == 14 for one in machine.outcomes.values())
    num_writes = sum(len(step.prefix_writes) for step in machine.runner.steps)
    num_starts = 3 + machine.engine.stats.num_preemptions
    assert num_writes == (num_starts if adapter is PREFIX else 0)
    machine.check_outputs()
    machine.check_empty()


@pytest.mark.parametrize("adapter", [VIRTUAL, PREFIX])
@pytest.mark.parametrize("rows", [1, 4, 64])
def test_prompt_logprobs_are_the_prompts_own(adapter: object, rows: int) -> None:
    machine, one = started(adapter, num_prompt=6, rows=rows, prompt_logprobs=2)
    machine.run()
    outcome = machine.outcomes[one]
    assert outcome.prompt_logprobs is not None
    assert len(outcome.prompt_logprobs) == 6
    assert outcome.prompt_logprobs == expected_scores(outcome.request)


@pytest.mark.parametrize("adapter", [VIRTUAL, PREFIX])
def test_what_lies_in_front_takes_blocks(adapter: object) -> None:
    machine, _ = started(adapter, num_prompt=3)
    machine.step()
    assert machine.blocks.num_used == 2


@pytest.mark.parametrize(
    ("prompt", "num_base"),
    [
        ((5, 6, 7), 0),
        ((3, 5, 6, 7), 1),
        ((5, 6, 3, 5, 6), 3),  # the last occurrence
        ((3, 4, 5, 6), 2),
        ((5, 5, 6), 1),
        ((3, 5), 2),  # half of one
        ((6,), 1),
        ((6, 5), 2),
    ],
)
def test_an_alora_acts_from_its_last_invocation_on(prompt: tuple[int, ...], num_base: int) -> None:
    machine = Machine(max_num_batched_tokens=64)
    one = machine.add(adapter=INVOKED, prompt=prompt, max_tokens=3)
    machine.finish_load("digest1")
    machine.run()
    rows = [slot for step in machine.runner.steps for slot in step.row_slot]
    is_invoked = num_base < len(prompt)
    assert [slot == NO_SLOT for slot in rows] == [
        not is_invoked or index < num_base for index in range(len(prompt) + 2)
    ]
    machine.check_outputs()
    assert len(machine.outcomes[one].token_ids) == 3


def test_an_invocation_that_the_model_generates_wakes_nothing() -> None:
    """peft looks for it in the prompt alone (`get_alora_offsets_for_generate`)."""
    machine = Machine()
    request = machine.requests[machine.add(4, max_tokens=6)]
    machine.run()
    generated = machine.outcomes[request.request_id].token_ids
    again = ref(1, invocation_tokens=generated[1:2])
    one = machine.add(adapter=again, prompt=request.prompt_ids, max_tokens=6)
    machine.run()
    assert generated[1] not in request.prompt_ids
    assert machine.outcomes[one].token_ids == generated


def test_decode_rows_of_the_base_part_stand_before_those_with_slots() -> None:
    """An aLoRA without its invocation has a slot, but its rows are the base's."""
    machine = Machine(max_num_batched_tokens=64)
    for number in (1, 2):
        machine.add(adapter=ref(number), max_tokens=8)
        machine.finish_load(f"digest{number}")
    machine.add(adapter=ref(3, invocation_tokens=(99,)), max_tokens=8)
    machine.finish_load("digest3")
    machine.step()
    machine.step()
    assert machine.runner.steps[-1].num_decode == 3
    assert machine.runner.steps[-1].row_slot[0] == NO_SLOT
    machine.run()
    machine.check_outputs()
