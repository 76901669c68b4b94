"""How many sequences one tenant may have open while others want some too."""

import pytest
from hypothesis import given, strategies as st

from service.engine.admission import GREED, Admission
from service.errors import Overloaded


def fill(admission: Admission, tenant: str) -> int:
    """How many more get in."""
    for number in range(100_000):
        try:
            admission.enter(tenant)
        except Overloaded:
            return number
    raise AssertionError("there is no limit")


def test_a_lone_tenant_leaves_a_ninth_of_the_places_to_others() -> None:
    assert fill(Admission(900), "a") == 800


def test_after_a_burst_there_is_room_for_the_first_sequences_of_many_others() -> None:
    admission = Admission(1088)
    fill(admission, "greedy")
    for number in range(50):
        admission.enter(f"tenant{number}")


def test_two_greedy_tenants_end_up_with_equal_numbers_as_places_come_back() -> None:
    admission = Admission(1000)
    held = {"early": fill(admission, "early"), "late": 0}
    for _ in range(5000):
        held["late"] += fill(admission, "late")
        admission.leave("early")
        held["early"] += fill(admission, "early") - 1
        admission.leave("late")
        held["late"] -= 1
    assert abs(held["early"] - held["late"]) <= GREED + 1


def test_a_small_house_can_be_filled_by_one() -> None:
    assert fill(Admission(8), "a") == 8


def test_the_sentence_says_whether_the_house_or_the_own_share_is_full() -> None:
    admission = Admission(90)
    fill(admission, "a")
    with pytest.raises(Overloaded, match="of yours"):
        admission.enter("a")
    for number in range(10):
        admission.enter(f"t{number}")
    with pytest.raises(Overloaded, match="90 sequences are open"):
        admission.enter("b")


@given(st.integers(1, 60), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_places_are_never_lost_nor_given_twice(
    max_open: int, moves: list[tuple[str, bool]]
) -> None:
    admission, held = Admission(max_open), dict.fromkeys("abc", 0)
    for tenant, is_entering in moves:
        if not is_entering:
            if held[tenant]:
                admission.leave(tenant)
                held[tenant] -= 1
            continue
        num_free = max_open - sum(held.values())
        may_enter = held[tenant] < GREED * num_free
        try:
            admission.enter(tenant)
        except Overloaded:
            assert not may_enter
        else:
            assert may_enter
            held[tenant] += 1
        assert len(admission) == sum(held.values())
