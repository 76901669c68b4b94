"""Which beginnings are found again, which never are, and who gives way when blocks run out."""

from dataclasses import replace

import pytest

from service.base import LengthClasses
from service.core import AdapterRef, GenerationRequest, SamplingParams
from service.engine.prefix_cache import PrefixCache
from service.engine.sequence import Sequence
from tests.engine.machine import PAGE, Machine, ref

PROMPT = tuple(range(20, 31))
"""Eleven tokens: two full blocks of four and a rest."""


def machine_of(**budgets: object) -> Machine:
    return Machine(
        **{"max_num_batched_tokens": 64, "device_pages": 8, "host_bytes": 8 * PAGE} | budgets
    )


def run(machine: Machine, adapter: AdapterRef | None = None, **options: object) -> tuple[int, int]:
    """(prompt tokens found, rows computed before the first token) of one sequence on its own."""
    options = {"prompt": PROMPT, "max_tokens": 2} | options
    one = machine.add(adapter=adapter, **options)
    before = len(machine.runner.steps)
    machine.run()
    machine.check_outputs()
    num_rows = sum(len(step.token_ids) for step in machine.runner.steps[before:])
    return machine.outcomes[one].num_cached, num_rows - (options["max_tokens"] - 1)


def test_a_beginning_that_was_computed_is_not_computed_again() -> None:
    machine = machine_of()
    assert run(machine) == (0, 11)
    assert run(machine) == (8, 3)
    assert run(machine, prompt=(*PROMPT[:6], 50, 51, 52)) == (4, 5)
    assert run(machine, prompt=(50, *PROMPT[1:])) == (0, 11)
    stats = machine.engine.stats
    assert (stats.prefix_cache_hits, stats.prefix_cache_queries) == (12, 11 + 11 + 9 + 11)
    machine.check_empty()


@pytest.mark.parametrize(("num_prompt", "found"), [(4, 0), (5, 4), (8, 4), (9, 8)])
def test_the_last_token_of_a_prompt_is_always_computed(num_prompt: int, found: int) -> None:
    machine = machine_of()
    run(machine, prompt=PROMPT[:num_prompt])
    assert run(machine, prompt=PROMPT[:num_prompt]) == (found, num_prompt - found)


def test_switched_off_nothing_is_shared() -> None:
    machine = machine_of(prefix_cache=False)
    assert run(machine) == run(machine) == (0, 11)
    stats = machine.engine.stats
    assert (stats.prefix_cache_hits, stats.prefix_cache_queries) == (0, 0)


def test_blocks_are_shared_by_those_who_run_at_the_same_time() -> None:
    machine = machine_of()
    machine.add(prompt=PROMPT, max_tokens=20)
    machine.step()
    machine.add(prompt=PROMPT, max_tokens=20)
    machine.step()
    tables = [one.block_table for one in machine.scheduler.running]
    assert tables[0][:2] == tables[1][:2]
    assert not set(tables[0][2:]) & set(tables[1][2:])
    machine.check()
    machine.abort("r0")
    machine.check()
    machine.run()
    machine.check_outputs()
    machine.check_empty()


def test_blocks_are_offered_only_after_the_step_that_computes_them() -> None:
    machine = machine_of()
    for _ in range(2):
        machine.add(prompt=PROMPT)
    machine.step()
    assert [one.num_rows for one in machine.runner.steps[0].segments] == [11, 11]
    machine.run()
    machine.check_outputs()


def test_who_has_room_only_by_sharing_starts_as_soon_as_there_is_something_to_share() -> None:
    machine = machine_of(num_blocks=5)
    running, other, alike = (
        machine.add(prompt=prompt, max_tokens=6)
        for prompt in (PROMPT, tuple(range(50, 61)), PROMPT)
    )
    machine.step()
    assert [one.request_id for one in machine.scheduler.running] == [running]
    machine.step()
    assert [one.request_id for one in machine.scheduler.running] == [running, alike]
    machine.run()
    assert machine.outcomes[other].num_cached == 0
    machine.check_outputs()


def test_a_chunk_of_a_long_prompt_serves_others_before_its_end() -> None:
    machine = machine_of(max_num_batched_tokens=9)
    long = machine.add(prompt=tuple(range(3, 33)))
    machine.step()
    other = machine.add(prompt=tuple(range(3, 14)))
    machine.run()
    assert machine.outcomes[long].num_cached == 0
    assert machine.outcomes[other].num_cached == 8
    machine.check_outputs()


def test_the_next_turn_of_a_conversation_finds_the_answer_too() -> None:
    machine = machine_of()
    one = machine.add(prompt=PROMPT, max_tokens=10)
    machine.run()
    answer = machine.outcomes[one].token_ids
    # The last token of the answer was never a row: 20 of the 21 positions were computed.
    assert run(machine, prompt=(*PROMPT, *answer, 5, 6)) == (20, 3)


def test_another_version_or_the_base_finds_nothing_of_an_adapter() -> None:
    machine = machine_of()
    run(machine, ref(1))
    assert run(machine, ref(2)) == (0, 11)
    assert run(machine) == (0, 11)
    assert run(machine, replace(ref(1), name="other name", version=4)) == (8, 3)


def test_a_version_that_was_unloaded_and_comes_back_is_still_the_same_content() -> None:
    machine = machine_of()
    run(machine, ref(1))
    machine.engine.unload("digest1")
    assert run(machine, ref(1)) == (8, 3)


def test_an_alora_shares_with_the_base_up_to_its_invocation() -> None:
    machine = machine_of()
    run(machine)
    invoked_in_third_block = ref(1, invocation_tokens=PROMPT[8:10])
    assert run(machine, invoked_in_third_block) == (8, 3)
    invoked_in_second_block = ref(2, invocation_tokens=PROMPT[5:6])
    assert run(machine, invoked_in_second_block) == (4, 7)
    assert run(machine, invoked_in_second_block) == (8, 3)
    never_invoked = ref(3, invocation_tokens=(90,))
    assert run(machine, never_invoked) == (8, 3)


def test_the_base_finds_what_an_alora_computed_before_its_invocation() -> None:
    machine = machine_of()
    run(machine, ref(1, invocation_tokens=PROMPT[4:5]))
    assert run(machine) == (4, 7)


def test_the_same_tokens_invoked_earlier_are_something_else() -> None:
    """One digest, one token chain, but the adapter acts from another row on."""
    machine = machine_of()
    one, other = ref(1, invocation_tokens=(21,)), ref(1, invocation_tokens=(22,))
    run(machine, one)
    assert run(machine, other) == (0, 11)


def test_virtual_tokens_are_shared_per_task() -> None:
    machine = machine_of()
    tasks = ref(1, num_virtual_tokens=5, num_tasks=2)
    assert run(machine, tasks, task_id=0) == (0, 16)
    assert run(machine, tasks, task_id=1) == (0, 16)
    assert run(machine, tasks, task_id=1) == (7, 4)
    assert run(machine, tasks, task_id=0, prompt=(50, 51, 52)) == (0, 4)


def test_only_the_clients_tokens_count_as_cached() -> None:
    """Four of the five virtual tokens are found, of the prompt nothing."""
    machine = machine_of()
    adapter = ref(1, num_virtual_tokens=5)
    run(machine, adapter)
    assert run(machine, adapter, prompt=(50, 51)) == (0, 3)
    assert machine.engine.stats.prefix_cache_hits == 4


def num_writes(machine: Machine) -> int:
    return sum(len(step.prefix_writes) for step in machine.runner.steps)


def test_a_learned_prefix_of_full_blocks_is_written_once_for_all() -> None:
    machine = machine_of()
    adapter = ref(1, num_prefix_tokens=8)
    assert run(machine, adapter) == (0, 11)
    assert run(machine, adapter, prompt=(50, 51)) == (0, 2)
    assert run(machine, adapter) == (8, 3)
    assert num_writes(machine) == 1


def test_a_learned_prefix_that_ends_within_a_block_is_found_whole_or_written_again() -> None:
    machine = machine_of()
    adapter = ref(1, num_prefix_tokens=6)
    assert run(machine, adapter) == (0, 11)
    assert run(machine, adapter, prompt=(50, 51, 52)) == (0, 3)
    assert num_writes(machine) == 2
    assert run(machine, adapter) == (10, 1)
    assert num_writes(machine) == 2


def test_a_scored_prompt_is_computed_in_full_and_offered_to_others() -> None:
    machine = machine_of()
    assert run(machine, prompt_logprobs=0) == (0, 11)
    assert run(machine, prompt_logprobs=0) == (0, 11)
    assert run(machine) == (8, 3)
    assert machine.engine.stats.prefix_cache_queries == 11


def pressed(prefix_cache: bool) -> Machine:
    machine = machine_of(num_blocks=9, prefix_cache=prefix_cache)
    for _ in range(3):
        machine.add(9, max_tokens=14)
    machine.run()
    machine.check_outputs()
    machine.check_empty()
    return machine


def test_a_preempted_sequence_finds_what_is_left_of_its_own_past() -> None:
    on, off = pressed(True), pressed(False)
    rows = [sum(len(step.token_ids) for step in one.runner.steps) for one in (on, off)]
    assert on.engine.stats.num_preemptions > 0
    assert rows[0] < rows[1]
    assert [one.num_cached for one in on.outcomes.values()] == [0, 0, 0], "its own is not a hit"


def test_what_a_sequence_finds_of_itself_was_not_cached_for_the_client() -> None:
    """Sent back before its first token, it starts anew from its own blocks."""
    machine = machine_of(num_blocks=9, max_num_batched_tokens=8, max_mixed_prefill_tokens=5)
    old = machine.add(7, max_tokens=12)
    machine.step()
    young = machine.add(25, max_tokens=2)
    while not machine.engine.stats.num_preemptions:
        machine.step()
    assert machine.outcomes[young].token_ids == ()
    machine.run()
    assert machine.engine.stats.prefix_cache_hits > 0
    assert [machine.outcomes[one].num_cached for one in (old, young)] == [0, 0]


def test_room_is_made_from_blocks_that_nobody_has_held_for_longest() -> None:
    machine = machine_of(num_blocks=9)
    first, second = tuple(range(20, 31)), tuple(range(40, 51))
    run(machine, prompt=first)
    run(machine, prompt=second)
    run(machine, prompt=first)  # Now the second is the oldest.
    run(machine, prompt=tuple(range(60, 85)))
    assert run(machine, prompt=first) == (8, 3)
    assert run(machine, prompt=second) == (0, 11)


def test_the_end_of_a_chain_gives_way_before_its_beginning() -> None:
    machine = machine_of(num_blocks=7)
    run(machine, prompt=tuple(range(20, 41)))  # Five full blocks.
    run(machine, prompt=tuple(range(50, 61)))
    assert run(machine, prompt=tuple(range(20, 41))) == (16, 5)


def test_cached_blocks_are_no_blocks_in_use_and_hold_nobody_up() -> None:
    machine = machine_of(num_blocks=7)
    for first in range(20, 60, 10):
        run(machine, prompt=tuple(range(first, first + 10)) * 2, max_tokens=4)
        assert machine.engine.stats.kv_blocks_used == 0


def sequence_of(*ids: int, max_tokens: int = 1, tenant: str = "one") -> Sequence:
    request = GenerationRequest("r", ids, SamplingParams(max_tokens), tenant=tenant)
    return Sequence(request, 0, frozenset(), block_table=[7, 8], num_computed=len(ids) - 1)


def test_a_tenant_finds_nothing_of_another() -> None:
    cache = PrefixCache(2)
    cache.publish(sequence_of(5, 6, 7, 8, 9), 0)
    assert cache.find(sequence_of(5, 6, 7, 8, 1)) == [7, 8]
    assert cache.find(sequence_of(5, 6, 7, 8, 1, tenant="other")) == []


def test_a_sequence_that_the_base_treats_as_long_finds_nothing_of_a_short_one() -> None:
    """Rotary embeddings beyond a threshold: other keys for the same tokens, from the first on."""
    base = LengthClasses(threshold=5)
    cache = PrefixCache(2, base)
    cache.publish(sequence_of(5, 6, 7, 8, 9, max_tokens=1), 0)
    assert cache.find(sequence_of(5, 6, 7, 8, 9, max_tokens=1)) == [7, 8]
    assert cache.find(sequence_of(5, 6, 7, 8, max_tokens=2)) == [7]
    assert cache.find(sequence_of(5, 6, 7, 8, 9, max_tokens=2)) == []
    gradual = PrefixCache(2, replace(base, are_gradual=True))
    gradual.publish(sequence_of(5, 6, 7, 8, 9, max_tokens=3), 0)
    assert gradual.find(sequence_of(5, 6, 7, 8, 9, max_tokens=3)) == [7, 8]
    assert gradual.find(sequence_of(5, 6, 7, 8, 9, max_tokens=4)) == []


def test_a_block_is_found_by_all_that_lies_before_it() -> None:
    cache = PrefixCache(2)
    cache.publish(sequence_of(5, 6, 7, 8, 9), 0)
    assert cache.find(sequence_of(5, 6, 7, 8, 1)) == [7, 8]
    assert cache.find(sequence_of(1, 6, 7, 8, 1)) == []
    cache.forget(7)
    assert cache.find(sequence_of(5, 6, 7, 8, 1)) == [], "a chain without its beginning"
    assert len(cache) == 1
