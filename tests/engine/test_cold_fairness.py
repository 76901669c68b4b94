"""A storm of cold adapters: loads are dealt out fairly, and no tenant takes all the memory."""

from service.core import FinishReason
from tests.engine.machine import PAGE, Machine, ref


def storm(machine: Machine, tenant: str, first: int, count: int, **fields: object) -> list[str]:
    return [
        machine.add(adapter=ref(first + number), tenant=tenant, **fields) for number in range(count)
    ]


def finish_one(machine: Machine) -> str:
    """The load that was started first."""
    digest = next(iter(machine.loader.pending))
    machine.finish_load(digest)
    return digest


def test_a_storm_leaves_a_thread_to_whoever_comes_next() -> None:
    machine = Machine(num_loaders=3, host_bytes=100 * PAGE)
    storm(machine, "a", 0, 20)
    assert list(machine.loader.pending) == ["digest0", "digest1"]
    machine.add(adapter=ref(50), tenant="b")
    assert list(machine.loader.pending) == ["digest0", "digest1", "digest50"]
    machine.run()
    machine.check_empty()


def test_a_lone_thread_is_nobody_s_for_ever() -> None:
    machine = Machine(num_loaders=1, host_bytes=100 * PAGE)
    storm(machine, "a", 0, 10)
    machine.add(adapter=ref(50), tenant="b")
    machine.add(adapter=ref(51), tenant="b")
    order = [finish_one(machine) for _ in range(5)]
    assert order == ["digest0", "digest1", "digest50", "digest2", "digest51"]
    machine.run()


def test_between_tenants_bytes_count_not_loads() -> None:
    machine = Machine(num_loaders=1, host_bytes=100 * PAGE, device_pages=8)
    for number in range(4):
        machine.add(adapter=ref(number, 4 * PAGE), tenant="large")
    storm(machine, "small", 10, 12)
    order = [finish_one(machine) for _ in range(11)]
    assert [one for one in order if int(one[6:]) < 10] == ["digest0", "digest1", "digest2"]
    machine.run()


def test_the_more_urgent_is_loaded_first_whoever_had_least() -> None:
    machine = Machine(num_loaders=1, host_bytes=100 * PAGE)
    storm(machine, "a", 0, 2)
    machine.add(adapter=ref(20), tenant="b")
    machine.add(adapter=ref(1), tenant="c", priority=-5)
    assert [finish_one(machine) for _ in range(2)] == ["digest0", "digest1"]
    machine.run()


def test_what_a_storm_has_loaded_leaves_memory_for_a_load_of_somebody_else() -> None:
    machine = Machine(host_bytes=18 * PAGE, device_pages=18, max_num_seqs=1)
    running = machine.add(max_tokens=60)
    machine.step()
    storm(machine, "a", 0, 30)
    while machine.loader.pending:
        finish_one(machine)
    assert len(machine.engine._cold) == 14, "16 are held, 2 are left for others"
    machine.add(adapter=ref(50), tenant="b")
    assert list(machine.loader.pending) == ["digest50"]
    machine.run()
    assert machine.outcomes[running].finish_reason is FinishReason.LENGTH
    machine.check_empty()


def test_waiting_for_what_is_in_memory_holds_no_more_of_it_than_loads_may() -> None:
    machine = Machine(host_bytes=9 * PAGE, device_pages=1, max_num_seqs=1)
    for number in range(9):
        machine.add(adapter=ref(number), tenant="a", max_tokens=1)
        machine.run()
    machine.add(max_tokens=60)
    machine.step()
    storm(machine, "a", 0, 9)
    assert not machine.loader.pending
    machine.add(adapter=ref(50), tenant="b")
    assert list(machine.loader.pending) == ["digest50"], "one of the nine gave way"
    machine.run()
    machine.check_outputs()
    machine.check_empty()


def test_two_tenants_who_wait_for_one_version_load_it_once() -> None:
    machine = Machine(num_loaders=1)
    machine.add(adapter=ref(1), tenant="a")
    first = machine.add(adapter=ref(2), tenant="a")
    machine.add(adapter=ref(2), tenant="b")
    machine.abort(first)
    machine.run()
    assert machine.loader.num_started == {"digest1": 1, "digest2": 1}
    machine.check_outputs()
    machine.check_empty()
