"""Adapters that are brought into memory before anybody uses them, and those that stay there."""

import pytest

from service.core import FinishReason
from service.errors import AdapterLoadFailed, ColdLoadTimeout, Overloaded
from tests.engine.machine import PAGE, Machine, ref
from tests.engine.test_cold_loads import FAILURE, Clock, clock

__all__ = ["clock"]


def is_done(machine: Machine, request_id: str) -> bool:
    return machine.outcomes[request_id].finish_reason is FinishReason.STOP


@pytest.mark.parametrize("tier", ["host", "device"])
def test_a_warmed_version_is_where_it_was_asked_for(tier: str) -> None:
    machine = Machine()
    warmed = machine.warm(ref(1), tier)
    assert not is_done(machine, warmed)
    machine.finish_load("digest1")
    assert is_done(machine, warmed)
    assert machine.engine.stats.resident == {"digest1": tier}
    assert not machine.runner.steps
    machine.check_empty()
    served = machine.add(adapter=ref(1), max_cold_s=0)
    machine.run()
    assert machine.outcomes[served].finish_reason is FinishReason.LENGTH


def test_what_is_in_memory_already_takes_no_load() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.run()
    for tier in ("host", "device"):
        assert is_done(machine, machine.warm(ref(1), tier))
    assert machine.loader.num_started == {"digest1": 1}


def test_warming_is_no_use_and_counts_as_none() -> None:
    machine = Machine()
    machine.warm(ref(1))
    machine.finish_load("digest1")
    machine.warm(ref(1))
    tiers = machine.engine.stats.tiers
    assert [tiers[one].hits + tiers[one].misses for one in ("device", "host")] == [0, 0]


def test_a_version_waits_for_its_place_on_the_device(clock: Clock) -> None:
    machine = Machine(device_pages=1)
    running = machine.add(adapter=ref(1), max_tokens=3)
    machine.finish_load("digest1")
    machine.step()
    warmed = machine.warm(ref(2), "device")
    machine.finish_load("digest2")
    machine.check()
    assert not is_done(machine, warmed)
    while machine.outcomes[running].finish_reason is None:
        machine.step()
        machine.check()
    assert is_done(machine, warmed)
    assert machine.engine.stats.resident["digest2"] == "device"
    machine.check_empty()


def test_the_wait_for_a_place_ends_with_the_deadline_that_the_load_had(clock: Clock) -> None:
    machine = Machine(device_pages=1, cold_load_timeout_s=10)
    machine.add(adapter=ref(1), max_tokens=50)
    machine.finish_load("digest1")
    machine.step()
    warmed = machine.warm(ref(2), "device", max_cold_s=5)
    clock.now += 4
    machine.finish_load("digest2")
    assert machine.engine.next_deadline == clock.now + 1
    clock.now += 1
    machine.take(machine.engine.expire())
    assert isinstance(machine.outcomes[warmed].error, ColdLoadTimeout)
    machine.check()


@pytest.mark.parametrize("max_cold_s", [0, 3])
def test_a_load_beyond_the_limit_is_told_and_goes_on(clock: Clock, max_cold_s: float) -> None:
    machine = Machine()
    warmed = machine.warm(ref(1), max_cold_s=max_cold_s)
    clock.now += max_cold_s
    machine.take(machine.engine.expire())
    assert isinstance(machine.outcomes[warmed].error, ColdLoadTimeout)
    machine.finish_load("digest1")
    assert machine.residency.is_in_host("digest1")


def test_a_failed_load_is_told() -> None:
    machine = Machine()
    warmed = machine.warm(ref(1))
    machine.finish_load("digest1", FAILURE)
    assert machine.outcomes[warmed].error is FAILURE
    machine.check_empty()


@pytest.mark.parametrize("tier", ["host", "device"])
def test_who_does_not_wait_any_more_holds_nothing(tier: str) -> None:
    machine = Machine(device_pages=1)
    machine.add(adapter=ref(1), max_tokens=3)
    machine.finish_load("digest1")
    machine.step()
    for is_loaded in (False, True):
        warmed = machine.warm(ref(2), "device")
        if is_loaded:
            machine.finish_load("digest2")
        machine.abort(warmed)
        machine.check()
    machine.run()
    machine.check_empty()


def test_a_pinned_version_is_loaded_at_once_and_outlives_any_storm() -> None:
    machine = Machine(host_bytes=3 * PAGE, device_pages=1)
    machine.pin(ref(1))
    assert set(machine.loader.pending) == {"digest1"}
    machine.finish_load("digest1")
    for number in range(2, 12):
        machine.add(adapter=ref(number))
    machine.run()
    assert machine.residency.is_in_host("digest1")
    assert machine.loader.num_started["digest1"] == 1
    machine.check_empty()


def test_what_is_pinned_no_more_leaves_like_any_other() -> None:
    machine = Machine(host_bytes=PAGE)
    machine.pin(ref(1))
    machine.finish_load("digest1")
    machine.pin()
    machine.add(adapter=ref(2))
    assert set(machine.loader.pending) == {"digest2"}
    machine.run()
    assert not machine.residency.is_resident("digest1")


def test_a_pin_moves_with_its_name() -> None:
    machine = Machine()
    machine.pin(ref(1), ref(2))
    machine.run()
    machine.pin(ref(2), ref(3))
    machine.run()
    assert machine.residency._kept == {"digest2", "digest3"}
    assert machine.loader.num_started == {"digest1": 1, "digest2": 1, "digest3": 1}


def test_requests_load_before_pins() -> None:
    machine = Machine(host_bytes=PAGE)
    first = machine.add(adapter=ref(1))
    machine.pin(ref(2))
    assert set(machine.loader.pending) == {"digest1"}
    machine.run()
    assert machine.outcomes[first].finish_reason is FinishReason.LENGTH
    assert machine.residency._kept == {"digest2"}


def test_a_version_on_the_device_alone_is_loaded_for_its_pin() -> None:
    machine = Machine(host_bytes=PAGE)
    machine.add(adapter=ref(1))
    machine.run()
    machine.warm(ref(2))
    machine.run()
    assert machine.engine.stats.resident == {"digest1": "device", "digest2": "host"}
    machine.pin(ref(1))
    machine.run()
    assert machine.residency._kept == {"digest1"}


def test_a_load_that_fails_is_not_tried_for_ever() -> None:
    machine = Machine()
    machine.pin(ref(1))
    machine.finish_load("digest1", FAILURE)
    machine.add()
    machine.run()
    assert machine.loader.num_started["digest1"] == 1
    machine.pin(ref(1))
    machine.run()
    assert machine.residency._kept == {"digest1"}


def test_a_deleted_version_goes_with_its_pin() -> None:
    machine = Machine()
    machine.pin(ref(1))
    machine.run()
    machine.unload("digest1")
    assert machine.residency.is_resident("digest1")
    machine.pin()
    assert not machine.residency.is_resident("digest1")


def test_what_pins_leave_no_room_for_is_refused_and_holds_up_nobody() -> None:
    machine = Machine(host_bytes=4 * PAGE)
    machine.pin(ref(1, 2 * PAGE))
    machine.run()
    large, other = machine.add(adapter=ref(2, 3 * PAGE)), machine.add(adapter=ref(3))
    error = machine.outcomes[large].error
    assert isinstance(error, Overloaded)
    assert "pinned adapters" in str(error)
    never = machine.add(adapter=ref(4, 5 * PAGE))
    assert isinstance(machine.outcomes[never].error, AdapterLoadFailed)
    machine.run()
    assert machine.outcomes[other].finish_reason is FinishReason.LENGTH
    machine.pin()
    large = machine.add(adapter=ref(2, 3 * PAGE))
    machine.run()
    assert machine.outcomes[large].finish_reason is FinishReason.LENGTH
