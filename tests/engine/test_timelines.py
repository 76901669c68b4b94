"""Every sequence knows where its time went, and nobody asks the clock for each token."""

from dataclasses import replace

import pytest

from service.core import Timeline
from service.step import Step, StepResult
from tests.engine import machine as machine_module
from tests.engine.machine import PAGE, Machine, ref
from tests.engine.test_cold_loads import FAILURE, Clock, _lose_everywhere


class CountingClock(Clock):
    num_calls = 0

    def __call__(self) -> float:
        self.num_calls += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> CountingClock:
    clock = CountingClock()
    clock.now = 0.0
    monkeypatch.setattr(machine_module, "monotonic", clock)
    return clock


def timed(machine: Machine, clock: Clock) -> Machine:
    """Each forward pass takes a second."""
    run = machine.runner.run

    def run_for_a_second(step: Step) -> StepResult:
        clock.now += 1
        return run(step)

    machine.runner.run = run_for_a_second  # type: ignore[method-assign]
    return machine


def test_a_sequence_of_the_base_tells_queue_prefill_and_decode(clock: CountingClock) -> None:
    machine = timed(Machine(max_num_seqs=1), clock)
    machine.add(max_tokens=2)
    waiting = machine.add(num_prompt=40, max_tokens=3)
    machine.run()
    first, last = machine.outcomes[waiting].timelines
    assert first == Timeline(0.0, "", 0.0, admitted=2.0, first_token=5.0, last_token=5.0)
    assert last == Timeline(0.0, "", 0.0, admitted=2.0, first_token=5.0, last_token=7.0)


def test_a_single_token_is_first_and_last(clock: CountingClock) -> None:
    machine = timed(Machine(), clock)
    only, scored = machine.add(max_tokens=1), machine.add(max_tokens=0, prompt_logprobs=0)
    machine.run()
    assert machine.outcomes[only].timelines == [Timeline(0.0, "", 0.0, 0.0, 1.0, 1.0)]
    assert machine.outcomes[scored].timelines == [Timeline(0.0, "", 0.0, 0.0, 1.0, 1.0)]


def test_the_tier_is_where_the_adapter_was_found(clock: CountingClock) -> None:
    machine = timed(Machine(device_pages=1), clock)
    cold = machine.add(adapter=ref(1), max_tokens=1)
    clock.now += 3
    machine.run()
    warm = machine.add(adapter=ref(1), max_tokens=1)
    machine.run()
    machine.add(adapter=ref(2), max_tokens=1)
    machine.run()
    host = machine.add(adapter=ref(1), max_tokens=1)
    machine.run()
    found = [machine.outcomes[one].timelines[-1] for one in (cold, warm, host)]
    assert [one.tier for one in found] == ["disk", "device", "host"]
    expected = Timeline(0.0, "disk", in_memory=3.0, admitted=3.0, **_tokens(4.0))
    assert found[0] == replace(expected, loaded_bytes=PAGE)
    assert found[1].in_memory == found[1].arrived == found[1].admitted


def _tokens(moment: float) -> dict[str, float]:
    return {"first_token": moment, "last_token": moment}


def test_who_is_evicted_while_waiting_loads_again(clock: CountingClock) -> None:
    machine = timed(Machine(max_num_seqs=1, device_pages=1), clock)
    machine.add(adapter=ref(1), max_tokens=1)
    machine.run()
    machine.add(max_tokens=4)
    machine.step()
    waiting = machine.add(adapter=ref(1), max_tokens=1)
    _lose_everywhere(machine, "digest1")
    while "digest1" not in machine.loader.pending:
        machine.step()
    clock.now = 50.0
    machine.run()
    timeline = machine.outcomes[waiting].timelines[-1]
    assert timeline == Timeline(2.0, "disk", 50.0, 50.0, 51.0, 51.0, loaded_bytes=PAGE)


def test_preemption_shows_and_keeps_the_moments_of_the_first_time(clock: CountingClock) -> None:
    machine = timed(Machine(num_blocks=8, prefix_cache=False), clock)
    ids = [machine.add(num_prompt=8, max_tokens=12) for _ in range(2)]
    machine.run()
    assert machine.engine.stats.num_preemptions > 0
    preempted = [machine.outcomes[one].timelines[-1] for one in ids]
    assert [one.is_preempted for one in preempted] == [False, True]
    first, last = machine.outcomes[ids[1]].timelines
    assert (first.admitted, first.first_token) == (last.admitted, last.first_token)
    assert not first.is_preempted


def test_the_bytes_of_a_load_are_those_of_the_first_that_waited(clock: CountingClock) -> None:
    machine = Machine()
    cold = [machine.add(adapter=ref(1), max_tokens=1) for _ in range(2)]
    machine.run()
    warm = machine.add(adapter=ref(1), max_tokens=1)
    machine.run()
    loaded = [machine.outcomes[one].timelines[-1].loaded_bytes for one in (*cold, warm)]
    assert loaded == [PAGE, 0, 0]


def test_the_bytes_of_a_load_whose_request_has_left_are_its_tenants_all_the_same() -> None:
    machine = Machine()
    gone = machine.add(adapter=ref(1), tenant="red")
    machine.abort(gone)
    machine.finish_load("digest1")
    assert [(one.tenant, one.ref) for one in machine.unawaited] == [("red", ref(1))]
    machine.add(adapter=ref(2), tenant="red", max_tokens=1)
    machine.run()
    assert len(machine.unawaited) == 1, "who is still there has them in its timeline"


def test_a_failed_load_tells_how_long_it_was_waited_for(clock: CountingClock) -> None:
    machine = Machine(host_bytes=PAGE)
    failing = machine.add(adapter=ref(1))
    machine.finish_load("digest1", FAILURE)
    assert machine.outcomes[failing].timelines == [Timeline(0.0, "disk")]


def test_the_clock_is_asked_twice_a_step_however_many_sequences_run(clock: CountingClock) -> None:
    machine = Machine()
    for _ in range(8):
        machine.add(max_tokens=20)
    for _ in range(5):
        machine.step()
    before = clock.num_calls
    machine.step()
    assert clock.num_calls - before == 2
