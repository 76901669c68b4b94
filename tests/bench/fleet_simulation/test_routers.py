"""What each routing promises, whatever the load."""

import random

import pytest

from tests.bench.fleet_simulation.routers import ROUTERS, Knobs, Router, Sight

COUNT = 5


def make(routing: str, **knobs: float) -> tuple[Router, Sight]:
    sight = Sight(list(range(COUNT)), dict.fromkeys(range(COUNT), 0))
    return ROUTERS[routing](sight, Knobs(**knobs)), sight


@pytest.mark.parametrize("bound", [110, 150, 300])
@pytest.mark.parametrize("routing", ["bounded hash", "residency, then hash"])
def test_nobody_has_more_than_the_bound_when_it_is_chosen(routing: str, bound: int) -> None:
    router, sight = make(routing, load_bound=bound)
    sight.published = {1: {"d0": "device", "d1": "host"}}
    draw, open_by = random.Random(0), []
    for _ in range(3000):
        total = sum(sight.outstanding.values()) + 1
        chosen = router.choose(f"d{min(int(draw.expovariate(0.5)), 40)}")
        sight.outstanding[chosen] += 1
        open_by.append(chosen)
        assert sight.outstanding[chosen] <= max(1, bound / 100 * total / COUNT + 1)
        while open_by and draw.random() < 0.49:
            sight.outstanding[open_by.pop(draw.randrange(len(open_by)))] -= 1


def test_plain_hashing_knows_no_bound() -> None:
    router, sight = make("hash")
    for _ in range(50):
        sight.outstanding[router.choose("d0")] += 1
    assert sorted(sight.outstanding.values()) == [0, 0, 0, 0, 50]


def test_help_for_a_hot_adapter_comes_in_the_order_of_the_ring() -> None:
    router, sight = make("bounded hash")
    chosen = []
    for _ in range(12):
        chosen.append(router.choose("d0"))
        sight.outstanding[chosen[-1]] += 1
    home = router.home("d0")
    assert chosen[0] == home
    assert len(dict.fromkeys(chosen)) > 1
    assert list(dict.fromkeys(chosen))[1] == make("bounded hash")[0].seen_by("d0")[1]


@pytest.mark.parametrize("routing", ["residency", "residency, then hash"])
def test_a_holder_is_asked_until_it_is_full(routing: str) -> None:
    router, sight = make(routing)
    sight.published = {3: {"d0": "host"}, 4: {"d1": "device"}}
    assert router.choose("d0") == 3
    sight.outstanding[3] = 50
    assert router.choose("d0") != 3


def test_what_nobody_holds_goes_to_its_place_or_to_the_least_loaded() -> None:
    for routing in ("residency", "residency, then hash"):
        router, sight = make(routing)
        home = router.home("d7")
        sight.outstanding = {one: int(one == home) for one in range(COUNT)}
        # One open request is all that the home may have while there are no others.
        assert router.choose("d7") != home
        sight.outstanding = {one: 4 + (one == home) for one in range(COUNT)}
        assert (router.choose("d7") == home) is (routing == "residency, then hash")


def test_least_outstanding_and_round_robin() -> None:
    router, sight = make("least outstanding")
    sight.outstanding = {0: 2, 1: 1, 2: 0, 3: 1, 4: 2}
    assert router.choose("d0") == 2
    sight.outstanding = dict.fromkeys(range(COUNT), 1)
    assert {router.choose("d0") for _ in range(COUNT)} == set(range(COUNT))
    turns, _ = make("round robin")
    assert sorted(turns.choose("d0") for _ in range(COUNT)) == list(range(COUNT))


@pytest.mark.parametrize("routing", ROUTERS)
def test_nobody_asks_the_dead(routing: str) -> None:
    router, sight = make(routing)
    sight.published = {2: {f"d{number}": "device" for number in range(100)}}
    sight.live.remove(2)
    router.refresh()
    for number in range(100):
        chosen = router.choose(f"d{number}")
        sight.outstanding[chosen] += 1
        assert chosen != 2
