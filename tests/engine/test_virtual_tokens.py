"""Counters of what each party has had: lifted, bounded, never saved up."""

from service.engine.virtual_tokens import VirtualTokens


def test_a_newcomer_begins_with_the_least_of_those_who_wait() -> None:
    counters = VirtualTokens(8)
    for party in "ab":
        counters.wait(party)
    counters.charge("a", 100)
    counters.charge("b", 70)
    counters.wait("c")
    assert counters.counter("c") == 70


def test_who_comes_back_has_saved_nothing_and_lost_nothing() -> None:
    counters = VirtualTokens(8)
    counters.wait("a")
    counters.leave("a")
    counters.charge("a", 500)
    counters.wait("b")
    counters.charge("b", 30)
    assert counters.counter("b") == 530, "an empty queue begins where it ended"
    counters.wait("a")
    assert counters.counter("a") == 530
    counters.leave("a")
    counters.charge("a", 1000)
    counters.wait("a")
    assert counters.counter("a") == 1530, "to leave and to come again does not help"


def test_of_equal_counters_the_one_that_waits_longer_goes_first() -> None:
    counters = VirtualTokens(8)
    for party in "zya":
        counters.wait(party)
    assert sorted("zya", key=counters.rank) == ["z", "y", "a"]


def test_only_so_many_of_the_absent_are_remembered_and_none_that_waits_is_forgotten() -> None:
    counters = VirtualTokens(4)
    for number in range(50):
        counters.wait(f"waiting{number}")
    for number in range(1000):
        counters.wait(f"gone{number}")
        counters.leave(f"gone{number}")
        counters.charge(f"gone{number}", number)
    assert len(counters) <= 50 + 4 + 1
    assert all(f"waiting{number}" in counters for number in range(50))
    assert counters.counter("gone999") == 999
