"""A tier under a budget, and who leaves it first."""

import pytest
from hypothesis import given, strategies as st

from service.adapters.eviction import POLICIES, eviction_policy
from service.adapters.tier import Tier


def make_tier(*digests: str, policy: str = "lru") -> Tier:
    tier = Tier(1000, eviction_policy(policy))
    for digest in digests:
        tier.insert(digest, 10, cost=1.0)
    return tier


def test_whoever_was_not_used_for_longest_leaves_first() -> None:
    tier = make_tier("a", "b", "c")
    tier.touch("a")
    assert list(tier.victims()) == ["b", "c", "a"]
    tier.remove("c")
    assert list(tier.victims()) == ["b", "a"]


def test_a_pinned_entry_is_no_victim_until_its_last_pin_is_gone() -> None:
    tier = make_tier("a", "b")
    tier.pin("a")
    tier.pin("a")
    tier.unpin("a")
    assert tier.is_pinned("a")
    assert list(tier.victims()) == ["b"]
    tier.unpin("a")
    assert list(tier.victims()) == ["a", "b"]


def test_an_entry_may_leave_while_its_tier_is_asked_for_victims() -> None:
    tier = make_tier("a", "b", "c")
    for digest in tier.victims():
        tier.remove(digest)
    assert tier.num_bytes == 0


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"'newest'.*lru"):
        eviction_policy("newest")


OPERATIONS = ["in", "out", "use", "cost", "victim", "pin", "unpin"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(
    operations=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(OPERATIONS))),
)
def test_bytes_and_victims_follow_what_is_in_the_tier(
    policy: str, operations: list[tuple[str, str]]
) -> None:
    tier = make_tier(policy=policy)
    inside: dict[str, int] = {}
    for digest, operation in operations:
        if operation == "in" and digest not in inside:
            tier.insert(digest, ord(digest), cost=1.0)
            inside[digest] = 0
        elif operation == "out" and inside.get(digest) == 0:
            tier.remove(digest)
            del inside[digest]
        elif operation == "use" and digest in inside:
            tier.touch(digest)
        elif operation == "cost" and digest in inside:
            tier.set_cost(digest, 5.0)
        elif operation == "victim" and inside.get(digest) == 0:
            tier.mark_victim(digest)
            tier.remove(digest)
            del inside[digest]
        elif operation == "pin" and digest in inside:
            tier.pin(digest)
            inside[digest] += 1
        elif operation == "unpin" and inside.get(digest):
            tier.unpin(digest)
            inside[digest] -= 1
        assert tier.num_bytes == sum(map(ord, inside))
        assert set(tier) == set(inside)
        victims = list(tier.victims())
        assert len(set(victims)) == len(victims)
        assert set(victims) == {one for one, pins in inside.items() if not pins}
        assert tier.stats().num_adapters == len(inside)
