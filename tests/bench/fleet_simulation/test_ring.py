"""The ring moves no more than it must."""

from collections import Counter

import pytest

from tests.bench.fleet_simulation.ring import Ring

KEYS = [f"d{number}" for number in range(2000)]


def test_everybody_is_in_the_order_of_every_key_once() -> None:
    ring = Ring(range(5))
    assert all(sorted(ring.order(key)) == [0, 1, 2, 3, 4] for key in KEYS)


def test_only_the_keys_of_who_leaves_move_and_each_to_somebody_else() -> None:
    before, after = Ring(range(8), salt=3), Ring(range(1, 8), salt=3)
    for key in KEYS:
        home = before.order(key)[0]
        assert after.order(key)[0] == home or home == 0


def test_who_comes_takes_keys_only_to_itself() -> None:
    before, after = Ring(range(8)), Ring(range(9))
    moved = [key for key in KEYS if before.order(key)[0] != after.order(key)[0]]
    assert {after.order(key)[0] for key in moved} == {8}
    assert len(moved) / len(KEYS) == pytest.approx(1 / 9, abs=0.06)


def test_more_points_are_more_even() -> None:
    few, many = (
        max(Counter(ring.order(key)[0] for key in KEYS).values())
        for ring in (Ring(range(8), 16), Ring(range(8), 640))
    )
    assert many < few
    assert many < 1.2 * len(KEYS) / 8
