"""Sequences whose adapter is not in memory: who waits, who loads, who fails."""

import pytest

from service.core import FinishReason
from service.errors import AdapterLoadFailed, ColdLoadTimeout
from tests.engine import machine as machine_module
from tests.engine.machine import PAGE, Machine, expected_tokens, ref

FAILURE = AdapterLoadFailed("The adapter cannot be loaded.")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(machine_module, "monotonic", clock)
    return clock


def test_one_load_serves_all_who_wait_for_a_version() -> None:
    machine = Machine()
    for _ in range(5):
        machine.add(adapter=ref(1))
    machine.run()
    assert machine.loader.num_started == {"digest1": 1}
    machine.check_outputs()
    machine.check_empty()


def test_a_cold_sequence_does_not_hold_up_a_warm_one() -> None:
    machine = Machine()
    cold, warm = machine.add(adapter=ref(1)), machine.add()
    for _ in range(10):
        machine.step()
    assert machine.outcomes[warm].finish_reason is FinishReason.LENGTH
    assert machine.outcomes[cold].finish_reason is None


def test_a_failed_load_fails_its_own_sequences_alone() -> None:
    machine = Machine()
    failing = [machine.add(adapter=ref(1)) for _ in range(2)]
    others = [machine.add(adapter=ref(2)), machine.add()]
    machine.finish_load("digest1", FAILURE)
    machine.run()
    assert [machine.outcomes[one].error for one in failing] == [FAILURE, FAILURE]
    assert {machine.outcomes[one].finish_reason for one in others} == {FinishReason.LENGTH}
    machine.check_outputs()


def test_a_failed_load_is_tried_again_by_the_next_request() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.finish_load("digest1", FAILURE)
    again = machine.add(adapter=ref(1))
    machine.run()
    assert machine.outcomes[again].finish_reason is FinishReason.LENGTH


def test_the_room_of_a_failed_load_goes_to_the_next_in_line() -> None:
    machine = Machine(host_bytes=PAGE)
    machine.add(adapter=ref(1))
    machine.add(adapter=ref(2))
    machine.finish_load("digest1", FAILURE)
    assert set(machine.loader.pending) == {"digest2"}


def test_the_room_of_an_aborted_sequence_goes_to_the_next_in_line() -> None:
    """The first waits in the batch's queue, holding its adapter; nothing else would run."""
    machine = Machine(host_bytes=PAGE)
    first = machine.add(adapter=ref(1))
    machine.add(adapter=ref(2))
    machine.finish_load("digest1")
    machine.abort(first)
    assert set(machine.loader.pending) == {"digest2"}
    machine.run()


def test_who_was_behind_an_aborted_large_adapter_is_loaded() -> None:
    machine = Machine(host_bytes=3 * PAGE, device_pages=4)
    machine.add(adapter=ref(1, PAGE))
    large = machine.add(adapter=ref(2, 3 * PAGE))
    machine.add(adapter=ref(3, PAGE))
    assert set(machine.loader.pending) == {"digest1"}
    machine.abort(large)
    assert set(machine.loader.pending) == {"digest1", "digest3"}


def test_who_was_behind_an_expired_large_adapter_is_loaded(clock: Clock) -> None:
    machine = Machine(host_bytes=3 * PAGE, cold_load_timeout_s=10)
    machine.add(adapter=ref(1, PAGE))
    machine.add(adapter=ref(2, 3 * PAGE))
    clock.now += 5
    last = machine.add(adapter=ref(3, PAGE))
    clock.now += 6
    machine.take(machine.engine.expire())
    assert machine.open_ids == [last]
    assert set(machine.loader.pending) == {"digest1", "digest3"}


def test_a_load_past_its_deadline_fails_those_who_waited_too_long(clock: Clock) -> None:
    machine = Machine(cold_load_timeout_s=10)
    early = machine.add(adapter=ref(1))
    clock.now += 6
    late = machine.add(adapter=ref(1))
    assert machine.engine.next_deadline == 1010
    clock.now += 4
    machine.take(machine.engine.expire())
    assert isinstance(machine.outcomes[early].error, ColdLoadTimeout)
    machine.run()
    assert machine.outcomes[late].finish_reason is FinishReason.LENGTH
    machine.check_empty()


def test_a_cooled_sequence_counts_its_deadline_from_then_on(clock: Clock) -> None:
    machine = Machine(max_num_seqs=1, device_pages=1, cold_load_timeout_s=10)
    machine.add(adapter=ref(1))
    machine.run()
    running = machine.add(max_tokens=8)
    machine.step()
    waiting = machine.add(adapter=ref(1))
    _lose_everywhere(machine, "digest1")
    clock.now += 60
    while machine.outcomes[running].finish_reason is None:
        machine.step()
    machine.step()
    assert set(machine.loader.pending) == {"digest1"}
    assert machine.engine.expire() == []
    machine.run()
    assert machine.outcomes[waiting].finish_reason is FinishReason.LENGTH


def test_a_request_may_wait_for_a_load_less_long_than_the_server_lets(clock: Clock) -> None:
    machine = Machine(cold_load_timeout_s=10)
    hasty = machine.add(adapter=ref(1), max_cold_s=2)
    patient = machine.add(adapter=ref(1), max_cold_s=60)
    clock.now += 2
    machine.take(machine.engine.expire())
    assert isinstance(machine.outcomes[hasty].error, ColdLoadTimeout)
    assert machine.open_ids == [patient]
    clock.now += 8
    machine.take(machine.engine.expire())
    assert isinstance(machine.outcomes[patient].error, ColdLoadTimeout)
    assert set(machine.loader.pending) == {"digest1"}, "the load goes on"


def test_who_waits_not_at_all_is_refused_at_once_and_the_next_finds_it_loaded(clock: Clock) -> None:
    machine = Machine()
    refused = machine.add(adapter=ref(1), max_cold_s=0)
    error = machine.outcomes[refused].error
    assert isinstance(error, ColdLoadTimeout)
    assert "its load goes on" in str(error)
    machine.finish_load("digest1")
    served = machine.add(adapter=ref(1), max_cold_s=0)
    machine.run()
    assert machine.outcomes[served].finish_reason is FinishReason.LENGTH
    machine.check_empty()


def test_the_hint_when_to_come_again_is_how_long_loads_take(clock: Clock) -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.loader.pending.clear()
    machine.take(machine.engine.finish_load("digest1", object(), 6.5))
    refused = machine.add(adapter=ref(2), max_cold_s=0)
    assert machine.outcomes[refused].error.retry_after == 7


def test_a_load_that_has_not_begun_is_not_said_to_go_on(clock: Clock) -> None:
    machine = Machine(host_bytes=PAGE)
    machine.add(adapter=ref(1))
    refused = machine.add(adapter=ref(2), max_cold_s=0)
    assert "others are loaded before it" in str(machine.outcomes[refused].error)
    assert set(machine.loader.pending) == {"digest1"}


def test_a_limit_on_the_load_does_not_end_who_has_run(clock: Clock) -> None:
    """Its adapter was in memory; that it must be loaded again is the server's doing."""
    machine = Machine(max_num_seqs=1, device_pages=1, cold_load_timeout_s=10)
    machine.add(adapter=ref(1))
    machine.run()
    machine.add(max_tokens=8)
    machine.step()
    waiting = machine.add(adapter=ref(1), max_cold_s=0)
    _lose_everywhere(machine, "digest1")
    while not machine.loader.pending:
        machine.step()
    assert machine.engine.expire() == []
    machine.run()
    assert machine.outcomes[waiting].finish_reason is FinishReason.LENGTH


def test_the_base_is_never_cold() -> None:
    machine = Machine()
    plain = machine.add(max_cold_s=0)
    machine.run()
    assert machine.outcomes[plain].finish_reason is FinishReason.LENGTH


def _lose_everywhere(machine: Machine, digest: str) -> None:
    """Evict it as pressure would, had nobody held the host copy."""
    for sequence in machine.scheduler.waiting:
        if sequence.holds_host:
            sequence.holds_host = False
            machine.residency.unhold(digest)
    machine.engine.unload(digest)
    assert not machine.residency.is_resident(digest)


def test_an_abort_while_loading_lets_the_load_end() -> None:
    machine = Machine()
    machine.abort(machine.add(adapter=ref(1)))
    machine.finish_load("digest1")
    machine.check_empty()
    assert machine.residency.is_in_host("digest1")


@pytest.mark.parametrize("num_bytes", [5 * PAGE, 7 * PAGE])
def test_an_adapter_larger_than_a_budget_fails_at_once(num_bytes: int) -> None:
    """Larger than the device (4 pages), or than the host (6 pages) as well."""
    machine = Machine()
    refused = machine.add(adapter=ref(1, num_bytes))
    assert isinstance(machine.outcomes[refused].error, AdapterLoadFailed)
    assert not machine.loader.pending
    machine.check_empty()


def test_a_storm_of_cold_adapters_runs_in_a_memory_for_one() -> None:
    machine = Machine(host_bytes=PAGE, device_pages=1)
    for number in range(12):
        machine.add(adapter=ref(number % 6), max_tokens=5)
    machine.run()
    machine.check_outputs()
    machine.check_empty()
    assert max(machine.loader.num_started.values()) <= 2


def test_a_version_unloaded_in_use_stays_until_its_last_sequence_ends() -> None:
    machine = Machine()
    running = machine.add(adapter=ref(1), max_tokens=6)
    machine.finish_load("digest1")
    machine.step()
    machine.engine.unload("digest1")
    assert machine.residency.is_resident("digest1")
    machine.run()
    outcome = machine.outcomes[running]
    assert outcome.token_ids == expected_tokens(outcome.request, 6)
    assert not machine.residency.is_resident("digest1")
    assert machine.engine.stats.resident == {}


def test_a_version_unloaded_while_loading_goes_after_its_sequences() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.engine.unload("digest1")
    machine.run()
    machine.check_outputs()
    assert not machine.residency.is_resident("digest1")


def test_a_version_unloaded_in_use_survives_preemption_without_a_reload() -> None:
    machine = Machine(num_blocks=6, max_num_seqs=2)
    machine.add(8, max_tokens=12)
    machine.add(8, ref(1), max_tokens=12)
    machine.finish_load("digest1")
    machine.step()
    machine.step()
    machine.engine.unload("digest1")
    machine.run()
    assert machine.engine.stats.num_preemptions > 0
    assert machine.loader.num_started == {"digest1": 1}
    machine.check_outputs()
    assert not machine.residency.is_resident("digest1")


def test_a_version_wanted_again_before_its_last_use_ended_is_kept() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.finish_load("digest1")
    machine.step()
    machine.engine.unload("digest1")
    machine.add(adapter=ref(1))
    machine.run()
    assert machine.residency.is_resident("digest1")
    assert machine.loader.num_started == {"digest1": 1}


def test_hits_misses_loads_and_evictions_are_counted() -> None:
    machine = Machine(device_pages=1, host_bytes=2 * PAGE)
    for number in (1, 1, 2, 1, 3, 2):
        machine.add(adapter=ref(number))
        machine.run()
    tiers = machine.engine.stats.tiers
    device, host = tiers["device"], tiers["host"]
    # The host keeps 1 and 2 until 3 pushes out the one unused for longer, which is 2.
    assert (device.hits, device.misses, device.loads, device.evictions) == (1, 5, 5, 4)
    assert (host.hits, host.misses, host.loads, host.evictions) == (1, 4, 4, 2)
    assert host.num_adapters == 2
    assert host.num_bytes == 2 * PAGE


def test_the_numbers_of_an_idle_engine_are_those_of_now() -> None:
    machine = Machine(host_bytes=PAGE)
    running, cold = machine.add(8, max_tokens=20), machine.add(adapter=ref(1))
    assert machine.engine.stats.num_cold == 1
    machine.step()
    assert machine.engine.stats.kv_blocks_used == 2
    machine.abort(running)
    stats = machine.engine.stats
    assert (stats.num_running, stats.kv_blocks_used) == (0, 0)
    machine.abort(cold)
    assert machine.engine.stats.num_cold == 0
    machine.finish_load("digest1")
    assert machine.engine.stats.resident == {"digest1": "host"}
    machine.engine.unload("digest1")
    assert machine.engine.stats.resident == {}
