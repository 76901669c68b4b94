"""The promise of a limit per minute, against every schedule that hypothesis can think of."""

from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from service.adapters.backends.sliding_window import GRAIN_MS, WINDOW_MS, SlidingWindow
from service.tenancy import WindowState

STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 50), st.integers(0, 20_000), st.sampled_from([999, 1000, 60_000])),
        st.integers(0, 10),
    ),
    max_size=80,
)
"""(milliseconds since the step before, amount)"""
GRAINS = st.sampled_from([1, GRAIN_MS])
LIMIT = 10


@dataclass(frozen=True)
class Taken:
    at: int
    amount: int


def take_what_fits(window: SlidingWindow, steps: list[tuple[int, int]]) -> tuple[list[Taken], int]:
    taken, now = [], 0
    for pause, amount in steps:
        now += pause
        if window.wait_ms(amount, LIMIT, now) == 0:
            window.take(amount, now)
            taken.append(Taken(now, amount))
    return taken, now


def within(taken: list[Taken], end: int, length: int = WINDOW_MS) -> int:
    return sum(one.amount for one in taken if end - length < one.at <= end)


@given(STEPS, GRAINS)
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[int, int]], grain: int) -> None:
    taken, _ = take_what_fits(SlidingWindow(grain), steps)
    assert all(within(taken, one.at) <= LIMIT for one in taken)


@given(STEPS, st.integers(1, LIMIT), GRAINS)
def test_the_wait_is_long_enough_and_at_most_a_grain_too_long(
    steps: list[tuple[int, int]], amount: int, grain: int
) -> None:
    window = SlidingWindow(grain)
    taken, now = take_what_fits(window, steps)
    wait = window.wait_ms(amount, LIMIT, now)
    assert 0 <= wait <= WINDOW_MS
    if wait:
        assert within(taken, now + wait - grain) + amount > LIMIT, "it would have fitted earlier"
        assert window.wait_ms(amount, LIMIT, now + wait - 1) == 1
    assert window.wait_ms(amount, LIMIT, now + wait) == 0


@given(STEPS, GRAINS)
def test_what_is_left_and_when_all_of_it_is(steps: list[tuple[int, int]], grain: int) -> None:
    window = SlidingWindow(grain)
    _, now = take_what_fits(window, steps)
    state = window.state(LIMIT, now)
    if state.remaining:
        assert window.wait_ms(state.remaining, LIMIT, now) == 0
    if state.remaining < LIMIT:
        assert window.wait_ms(state.remaining + 1, LIMIT, now) > 0
    reset = now + state.reset_ms
    if state.reset_ms:
        assert window.state(LIMIT, reset - 1).remaining < LIMIT
    assert window.state(LIMIT, reset) == WindowState(LIMIT, LIMIT, 0)


@given(STEPS, st.data(), GRAINS)
def test_what_is_given_back_is_free_at_once(
    steps: list[tuple[int, int]], data: st.DataObject, grain: int
) -> None:
    window = SlidingWindow(grain)
    taken, now = take_what_fits(window, steps)
    for one in taken:
        unused = data.draw(st.integers(0, one.amount))
        before = window.state(LIMIT, now).remaining
        window.give_back(unused, one.at)
        freed = window.state(LIMIT, now).remaining - before
        if one.at + WINDOW_MS > now:
            assert freed == unused
        elif one.at + WINDOW_MS + grain <= now:
            assert freed == 0, "it was free already"


@given(STEPS)
def test_it_stays_small_whatever_its_limit(steps: list[tuple[int, int]]) -> None:
    window = SlidingWindow()
    now = 0
    for pause, amount in steps * 2:
        now += pause % 700
        window.take(amount, now)
    window.state(LIMIT, now)
    assert len(window._entries) <= WINDOW_MS // GRAIN_MS + 1


def test_more_than_the_limit_is_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match="never fits"):
        SlidingWindow().wait_ms(LIMIT + 1, LIMIT, 0)
