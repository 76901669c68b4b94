"""Traffic splits by weight, the same key always the same way, and few move when weights do."""

from collections import Counter

import pytest

from service.adapters.shares import Shares, largest, pick

KEYS = [f"user-{i}" for i in range(20_000)]


@pytest.mark.parametrize(
    "shares", [((3, 95), (4, 5)), ((1, 1), (2, 1), (7, 2)), ((1, 1_000_000), (2, 1))]
)
def test_shares_are_the_weights(shares: Shares) -> None:
    counts = Counter(pick(shares, key) for key in KEYS)
    total = sum(weight for _, weight in shares)
    for number, weight in shares:
        expected = weight / total
        tolerance = 5 * (expected * (1 - expected) / len(KEYS)) ** 0.5
        assert abs(counts[number] / len(KEYS) - expected) <= tolerance + 1e-9


def test_a_key_stays_for_ever() -> None:
    """Across processes and releases: these are written down, not computed."""
    shares = ((3, 50), (4, 50))
    assert [pick(shares, key) for key in ("ann", "bob", "", "\ud800")] == [3, 3, 4, 3]


def test_only_those_move_that_must() -> None:
    before, after = ((3, 95), (4, 5)), ((3, 80), (4, 20))
    moved = Counter((pick(before, key), pick(after, key)) for key in KEYS)
    assert moved[4, 3] == 0, "nobody leaves a version whose share grows"
    assert 0.13 < moved[3, 4] / len(KEYS) < 0.17
    with_third = Counter((pick(before, key), pick((*before, (5, 10)), key)) for key in KEYS)
    assert with_third[3, 4] == with_third[4, 3] == 0


def test_the_largest_share() -> None:
    assert largest(((3, 95), (4, 5))) == 3
    assert largest(((3, 5), (4, 95))) == 4
    assert largest(((3, 50), (4, 50))) == 3
