"""The simulation is one: seeded, complete, and ordered as it must be."""

import json
from dataclasses import replace
from functools import cache

import pytest

from tests.bench.fleet_simulation import plan
from tests.bench.fleet_simulation.outcome import judge, outcome
from tests.bench.fleet_simulation.profile import LoadCost, measured, measured_profile
from tests.bench.fleet_simulation.results import body, simulate
from tests.bench.fleet_simulation.routers import ROUTERS
from tests.bench.fleet_simulation.scenario import Run, Scenario, run
from tests.bench.fleet_simulation.traffic import Surge

SMALL = Scenario(
    "",
    num_replicas=4,
    exponent=1.0,
    load=0.7,
    profile=measured_profile("cpu"),
    num_adapters=400,
    tiers=(0.05, 0.15, 1.0),
    num_requests=400,
    warm_requests=400,
)


@cache
def small(routing: str, **changes: object) -> Run:
    return run(replace(SMALL, routing=routing, **changes))


def test_the_same_seed_is_the_same_json_and_another_one_is_not() -> None:
    def text(seed: int) -> str:
        chosen = {name: plan.short(seed)[name][2:4] for name in ("calm", "kill")}
        return json.dumps(body(simulate(chosen, lambda line: None)))

    first = text(0)
    assert first == text(0)
    assert first != text(1)


@pytest.mark.parametrize("routing", ROUTERS)
def test_every_request_is_answered_once_and_in_order_of_time(routing: str) -> None:
    done = small(routing)
    assert len(done.asked) == pytest.approx(SMALL.num_requests, rel=0.2)
    for one in done.asked:
        assert one.first_token is not None
        assert one.end is not None
        assert one.at < one.first_token <= one.end
        assert one.tier in ("device", "host", "disk")
        assert not one.problem


def test_who_knows_adapters_finds_more_in_memory() -> None:
    shares = {routing: outcome(small(routing)).in_memory for routing in ROUTERS}
    blind = max(shares["round robin"], shares["least outstanding"])
    for routing in ("hash", "bounded hash", "residency", "residency, then hash"):
        assert shares[routing] > blind + 0.05, shares
    assert shares["hash"] >= shares["bounded hash"], shares


def test_a_bound_balances_what_plain_hashing_does_not() -> None:
    balance = {routing: outcome(small(routing)).balance for routing in ROUTERS}
    assert balance["round robin"] < 1.05
    assert balance["bounded hash"] < balance["hash"]
    assert balance["residency"] < balance["hash"]


def test_a_surge_of_one_adapter_is_spread_by_the_bound() -> None:
    surge = Surge(adapter=0.5, start=0.3, end=0.8, share=1.0)
    plain, bounded = (
        outcome(small(routing, load=0.45, surge=surge)) for routing in ("hash", "bounded hash")
    )
    assert bounded.balance < plain.balance
    assert bounded.first_token_p99_ms < plain.first_token_p99_ms


def test_one_replica_alone_gets_the_same_by_any_routing() -> None:
    runs = [small(routing, num_replicas=1).asked for routing in ROUTERS]
    assert all(one == runs[0] for one in runs)


def test_memory_for_all_loads_nothing() -> None:
    done = small("round robin", tiers=(1.0, 1.0, 1.0), warm_requests=4000)
    assert outcome(done).tiers["device"] > 0.97


def test_less_memory_finds_less() -> None:
    less = outcome(small("bounded hash", tiers=(0.02, 0.06, 1.0)))
    assert less.in_memory < outcome(small("bounded hash")).in_memory


def test_what_is_on_no_disk_comes_from_the_store_and_takes_longer() -> None:
    far = replace(SMALL.profile, load=LoadCost(disk=0.001, store=0.5))
    done = small("round robin", tiers=(0.05, 0.15, 0.3), profile=far)
    waits = {
        tier: [one.first_token - one.at for one in done.asked if one.tier == tier]
        for tier in ("disk", "store")
    }
    # Who joins a load that is under way waits for less than all of it.
    assert max(waits["store"]) > 0.5 > min(waits["disk"])


def test_a_kill_loses_what_was_under_way_there_and_moves_only_its_adapters() -> None:
    done = small("hash", change="kill")
    assert done.changed_at is not None
    assert done.moved == pytest.approx(1 / SMALL.num_replicas, abs=0.15)
    lost = [one for one in done.asked if one.problem]
    assert lost
    assert all(one.problem == "lost" and one.replica == 0 for one in lost)
    assert all(one.at <= done.changed_at <= one.end for one in lost if one.end is not None)
    assert not [one for one in done.asked if one.at > done.changed_at and one.replica == 0]


@pytest.mark.parametrize("routing", ["round robin", "bounded hash", "residency"])
def test_who_is_added_is_asked(routing: str) -> None:
    done = small(routing, change="add")
    assert done.changed_at is not None
    after = [one for one in done.asked if one.at > done.changed_at]
    joined = [one for one in after if one.replica == SMALL.num_replicas]
    assert joined
    assert joined[0].tier == "store"
    assert judge(after, SMALL.num_replicas + 1).lost == 0


def test_costs_were_measured_and_fit() -> None:
    for profile in measured()["profiles"].values():
        assert min(profile["step"].values()) > 0
        assert 0 < profile["load"]["disk"] < profile["load"]["store"]
        assert profile["largest_error_of_fit"] < 0.25
