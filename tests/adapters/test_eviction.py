"""Policies by name: whom they keep, and that they forget what is not used any more."""

import random
import tracemalloc
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from service.adapters.eviction import POLICIES, GreedyDualSizeFrequency
from service.adapters.residency import Residency
from service.core import AdapterRef
from service.settings import Settings

PAGE = 64


def order(*entries: tuple[str, int, float], uses: str = "") -> list[str]:
    """Victims among entries of (digest, bytes, cost) after some uses."""
    policy = GreedyDualSizeFrequency()
    for entry in entries:
        policy.insert(*entry)
    for digest in uses:
        policy.mark_used(digest)
    return list(policy.victims())


def test_what_is_popular_stays() -> None:
    assert order(("a", 10, 1.0), ("b", 10, 1.0), ("c", 10, 1.0), uses="abaa") == ["c", "b", "a"]


def test_what_is_dear_to_bring_back_stays() -> None:
    assert order(("dear", 10, 3.0), ("cheap", 10, 1.0)) == ["cheap", "dear"]


def test_what_is_small_stays() -> None:
    assert order(("small", 10, 1.0), ("large", 30, 1.0)) == ["large", "small"]


def test_of_equals_the_one_unused_for_longer_leaves() -> None:
    assert order(("a", 10, 1.0), ("b", 10, 1.0)) == ["a", "b"]


def test_a_cost_that_becomes_known_counts() -> None:
    policy = GreedyDualSizeFrequency()
    policy.insert("a", 10, 0.0)
    policy.insert("b", 10, 1.0)
    policy.set_cost("a", 2.0)
    assert list(policy.victims()) == ["b", "a"]


def test_yesterdays_favourite_is_overtaken() -> None:
    policy = GreedyDualSizeFrequency()
    policy.insert("old", 1, 1.0)
    for _ in range(20):
        policy.mark_used("old")
    for number in range(40):
        policy.insert(f"new{number}", 1, 1.0)
        victim = next(policy.victims())
        if victim == "old":
            return
        policy.mark_victim(victim)
        policy.remove(victim)
    raise AssertionError("it is never forgotten")


def test_what_is_unloaded_makes_nobody_older() -> None:
    """Its worth says nothing about the room that others need."""
    policy = GreedyDualSizeFrequency()
    policy.insert("gone", 1, 100.0)
    policy.remove("gone")
    policy.insert("a", 1, 1.0)
    policy.insert("b", 1, 2.0)
    assert list(policy.victims()) == ["a", "b"]
    policy.mark_used("a")
    policy.mark_used("a")
    assert list(policy.victims()) == ["b", "a"]


def test_the_setting_knows_every_policy() -> None:
    assert set(get_args(Settings.model_fields["eviction_policy"].annotation)) == set(POLICIES)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(data=st.data())
def test_budgets_hold_and_what_is_held_stays(policy: str, data: st.DataObject) -> None:
    """Through the real residency: two hold an adapter while others come and go."""
    residency = Residency(4 * PAGE, 8 * PAGE, policy, page_bytes=PAGE)
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=4, max_size=8))
    refs = [AdapterRef("a", i, f"d{i}", size * PAGE) for i, size in enumerate(sizes)]
    held: list[AdapterRef] = []
    for number in data.draw(st.lists(st.integers(0, len(refs) - 1), max_size=40)):
        one = refs[number]
        residency.count_lookup(one.digest)
        if not residency.is_resident(one.digest):
            if not residency.try_reserve_host(one):
                continue
            residency.finish_load(one.digest, 0.01 * number, num_holders=0)
        if residency.try_activate(one) is not None:
            held.append(one)
        if len(held) > 1:
            residency.deactivate(held.pop(0).digest)
        residency.take_plan()
        for tier in (residency.device, residency.host):
            assert 0 <= tier.num_bytes <= tier.budget_bytes
        assert {two.digest for two in held} <= set(residency._slots)


def misses(policy: str, refs: list[AdapterRef], seconds: dict[str, float]) -> tuple[int, float]:
    draw = random.Random(1)
    residency = Residency(4 * PAGE, 24 * PAGE, policy, page_bytes=PAGE)
    weights = [1 / (rank + 1) for rank in range(len(refs))]
    count, spent = 0, 0.0
    for one in draw.choices(refs, weights, k=3000):
        residency.count_lookup(one.digest)
        if not residency.is_resident(one.digest):
            assert residency.try_reserve_host(one)
            residency.finish_load(one.digest, seconds[one.digest], num_holders=0)
            count, spent = count + 1, spent + seconds[one.digest]
        assert residency.try_activate(one) is not None
        residency.deactivate(one.digest)
        residency.take_plan()
    return count, spent


def test_on_popular_small_and_rare_large_ones_it_loads_less_than_lru() -> None:
    draw = random.Random(0)
    refs = [AdapterRef("a", i, f"d{i}", draw.choice([1, 1, 2, 4]) * PAGE) for i in range(60)]
    seconds = {one.digest: 0.01 * one.compiled_bytes / PAGE + 0.005 for one in refs}
    lru, gdsf = (misses(policy, refs, seconds) for policy in ("lru", "gdsf"))
    assert gdsf[0] < 0.95 * lru[0]
    assert gdsf[1] < lru[1]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_first_victims_of_a_large_tier_cost_no_copy_of_all_of_it(name: str) -> None:
    """A load into full memory asks for them on the engine's thread."""
    policy = POLICIES[name]()
    for number in range(5000):
        policy.insert(f"d{number}", 10, 1.0)
    tracemalloc.start()
    assert next(policy.victims()) == "d0"
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 5000


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_entry_is_told_once_also_when_some_leave_meanwhile(name: str) -> None:
    policy = POLICIES[name]()
    for number in range(100):
        policy.insert(f"d{number}", 10, 1.0)
    told = []
    for digest in policy.victims():
        told.append(digest)
        policy.mark_victim(digest)
        policy.remove(digest)
    assert told == [f"d{number}" for number in range(100)]
    assert list(policy.victims()) == []
