"""What is where, and what the pool is told to do about it."""

import itertools

import pytest

from service.adapters.residency import Residency
from service.core import AdapterPart, AdapterRef
from service.step import SlotLoad

PAGE = 64


def ref(name: str, num_bytes: int = PAGE) -> AdapterRef:
    return AdapterRef(name, 1, name, num_bytes)


def make_residency(device_pages: int = 2, host_bytes: int = 4 * PAGE) -> Residency:
    return Residency(device_pages * PAGE, host_bytes, page_bytes=PAGE)


def load(residency: Residency, *refs: AdapterRef, num_holders: int = 0) -> None:
    for one in refs:
        assert residency.try_reserve_host(one)
        residency.finish_load(one.digest, 0.1, num_holders)


def use(residency: Residency, one: AdapterRef) -> int | None:
    """Run something on it that ends at once."""
    slot = residency.try_activate(one)
    if slot is not None:
        residency.deactivate(one.digest)
    return slot


def test_a_version_under_load_is_not_resident_and_its_room_is_taken() -> None:
    residency = make_residency(host_bytes=PAGE)
    assert residency.try_reserve_host(ref("a"))
    assert not residency.is_resident("a")
    assert residency.resident() == {}
    assert not residency.hold("a")
    assert not residency.try_reserve_host(ref("b"))
    residency.finish_load("a", 0.1, num_holders=0)
    assert residency.resident() == {"a": "host"}


def test_what_came_to_its_tier_last_is_last() -> None:
    residency = make_residency()
    load(residency, ref("a"), ref("b"), ref("c"))
    assert list(residency.resident()) == ["a", "b", "c"]
    before = residency.revision
    use(residency, ref("a"))
    assert list(residency.resident().items()) == [("b", "host"), ("c", "host"), ("a", "device")]
    assert residency.revision > before


def test_a_failed_load_leaves_nothing_behind() -> None:
    residency = make_residency(host_bytes=PAGE)
    residency.try_reserve_host(ref("a"))
    residency.fail_load("a")
    assert residency.host.num_bytes == 0
    assert residency.try_reserve_host(ref("b"))


def test_each_of_those_who_waited_holds_the_host_copy() -> None:
    residency = make_residency(host_bytes=PAGE)
    load(residency, ref("a"), num_holders=2)
    residency.unhold("a")
    assert not residency.try_reserve_host(ref("b"))
    residency.unhold("a")
    assert residency.try_reserve_host(ref("b"))
    assert residency.take_plan().evicted_hosts == ["a"]


def test_room_that_would_not_suffice_evicts_nobody() -> None:
    residency = make_residency(host_bytes=3 * PAGE)
    load(residency, ref("a"), ref("b"))
    load(residency, ref("held"), num_holders=1)
    assert not residency.try_reserve_host(ref("large", 3 * PAGE))
    assert set(residency.resident()) == {"a", "b", "held"}
    assert residency.host.evictions == 0


def test_a_slot_is_filled_once_and_found_again() -> None:
    residency = make_residency()
    load(residency, ref("a"))
    slot = residency.try_activate(ref("a"))
    assert residency.take_plan().loads == [SlotLoad("a", slot, 0)]
    assert residency.try_activate(ref("a")) == slot
    assert residency.take_plan().loads == []
    assert residency.resident() == {"a": "device"}


def test_a_version_in_use_keeps_its_slot_whoever_comes() -> None:
    residency = make_residency(device_pages=1)
    load(residency, ref("a"), ref("b"))
    slot = residency.try_activate(ref("a"))
    assert residency.try_activate(ref("b")) is None
    residency.deactivate("a")
    assert residency.try_activate(ref("b")) == slot
    plan = residency.take_plan()
    assert [one.digest for one in plan.loads] == ["b"]


def test_the_pool_is_told_of_an_eviction_once_the_slot_was_filled() -> None:
    residency = make_residency(device_pages=1)
    load(residency, ref("a"), ref("b"))
    slot = use(residency, ref("a"))
    residency.take_plan()
    use(residency, ref("b"))
    plan = residency.take_plan()
    assert plan.evicted_slots == [slot]
    assert plan.loads == [SlotLoad("b", slot, 0)]


def test_the_least_recently_used_leaves_the_device_first() -> None:
    residency = make_residency(device_pages=2)
    load(residency, ref("a"), ref("b"), ref("c"))
    for name in ("a", "b", "a", "c"):
        use(residency, ref(name))
    tiers = residency.resident()
    assert tiers == {"a": "device", "b": "host", "c": "device"}


def test_as_many_leave_as_a_neighbouring_run_of_pages_needs() -> None:
    residency = make_residency(device_pages=3, host_bytes=9 * PAGE)
    load(residency, ref("a"), ref("b"), ref("c"), ref("wide", 2 * PAGE))
    for name in ("a", "b", "c"):
        use(residency, ref(name))
    residency.try_activate(ref("b"))  # In the middle: the outer pages are never neighbours.
    assert residency.try_activate(ref("wide", 2 * PAGE)) is None
    assert residency.device.evictions == 0
    residency.deactivate("b")
    assert residency.try_activate(ref("wide", 2 * PAGE)) is not None


@pytest.mark.parametrize(
    ("num_bytes", "fits"), [(2 * PAGE, True), (2 * PAGE + 1, False), (4 * PAGE + 1, False)]
)
def test_what_can_never_be_held_is_known_beforehand(num_bytes: int, fits: bool) -> None:
    assert make_residency().can_ever_hold(ref("a", num_bytes)) is fits


def test_a_forgotten_version_goes_at_once_when_nobody_uses_it() -> None:
    residency = make_residency()
    load(residency, ref("a"))
    slot = use(residency, ref("a"))
    residency.take_plan()
    residency.forget("a")
    assert residency.resident() == {}
    plan = residency.take_plan()
    assert (plan.evicted_slots, plan.evicted_hosts) == ([slot], ["a"])


def test_a_forgotten_version_goes_with_its_last_use_of_either_tier() -> None:
    residency = make_residency()
    load(residency, ref("a"), num_holders=1)
    residency.try_activate(ref("a"))
    residency.forget("a")
    residency.deactivate("a")
    assert residency.is_resident("a")
    residency.unhold("a")
    assert not residency.is_resident("a")


def test_a_version_forgotten_while_loading_goes_when_the_load_ends() -> None:
    residency = make_residency()
    residency.try_reserve_host(ref("a"))
    residency.forget("a")
    residency.finish_load("a", 0.1, num_holders=0)
    assert not residency.is_resident("a")


def test_a_revived_version_stays() -> None:
    residency = make_residency()
    load(residency, ref("a"), num_holders=1)
    residency.forget("a")
    residency.revive("a")
    residency.unhold("a")
    assert residency.is_resident("a")


def test_forgetting_what_is_not_there_does_not_haunt_a_later_load() -> None:
    residency = make_residency()
    residency.forget("a")
    load(residency, ref("a"))
    assert residency.is_resident("a")


def sum_of(*names: str, num_bytes: int = PAGE) -> AdapterRef:
    parts = tuple(AdapterPart(ref(name), 1.0) for name in names)
    return AdapterRef("+".join(names), 0, "+".join(names), num_bytes, parts=parts)


def test_a_forgotten_version_takes_along_the_sums_that_contain_it() -> None:
    residency = make_residency()
    load(residency, ref("a"), sum_of("a", "b"), sum_of("b", "c"))
    use(residency, sum_of("a", "b"))
    residency.forget("a")
    assert residency.resident() == {"b+c": "host"}


def test_a_sum_goes_though_its_part_was_never_in_memory_itself() -> None:
    residency = make_residency()
    load(residency, sum_of("a", "b"))
    residency.forget("b")
    assert residency.resident() == {}


def test_a_sum_in_use_outlives_its_part_until_the_use_ends() -> None:
    residency = make_residency()
    load(residency, sum_of("a", "b"))
    residency.try_activate(sum_of("a", "b"))
    residency.forget("a")
    assert residency.resident() == {"a+b": "device"}
    residency.deactivate("a+b")
    assert residency.resident() == {}


def test_a_sum_under_load_goes_when_the_load_ends() -> None:
    residency = make_residency()
    residency.try_reserve_host(sum_of("a", "b"))
    residency.forget("b")
    residency.finish_load("a+b", 0.1, num_holders=0)
    assert residency.resident() == {}


def test_nothing_is_remembered_of_sums_that_have_left() -> None:
    """Weights may be swept by a client: as many sums as requests."""
    residency = make_residency(device_pages=1, host_bytes=PAGE)
    for name in ("a+b", "c+d", "e+f"):
        one = sum_of(*name.split("+"))
        load(residency, one)
        use(residency, one)
        assert set(residency._sums) == set(residency.resident())
    residency.try_reserve_host(sum_of("g", "h"))
    residency.fail_load("g+h")
    assert set(residency._sums) == set(residency.resident())


def test_lookups_count_in_the_tiers_that_were_asked() -> None:
    residency = make_residency()
    residency.count_lookup("a")
    load(residency, ref("a"))
    residency.count_lookup("a")
    use(residency, ref("a"))
    residency.count_lookup("a")
    stats = residency.stats()
    assert (stats["device"].hits, stats["device"].misses) == (1, 2)
    assert (stats["host"].hits, stats["host"].misses) == (1, 1)


def test_the_revision_grows_with_every_change_of_what_is_resident() -> None:
    residency = make_residency(device_pages=1, host_bytes=2 * PAGE)
    seen = [(residency.revision, residency.resident())]

    def note() -> None:
        seen.append((residency.revision, residency.resident()))

    for name in ("a", "b", "c"):
        residency.try_reserve_host(ref(name))
        note()
        residency.finish_load(name, 0.1, 0)
        note()
        use(residency, ref(name))
        note()
    residency.forget("c")
    note()
    for (before, old), (after, new) in itertools.pairwise(seen):
        assert old == new or after > before
