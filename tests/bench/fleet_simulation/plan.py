"""Which experiments a full run has, and which a short one."""

from collections.abc import Mapping
from dataclasses import replace

from tests.bench.fleet_simulation.profile import ASSUMED_GPU, measured_profile
from tests.bench.fleet_simulation.routers import ROUTERS, Knobs
from tests.bench.fleet_simulation.scenario import Scenario
from tests.bench.fleet_simulation.traffic import Surge

Plan = Mapping[str, tuple[Scenario, ...]]

REPLICAS = (1, 2, 4, 8, 16)
EXPONENTS = (0.8, 1.0, 1.2)
BOUNDS = (110, 125, 150, 200)
NODES = (16, 160)
POLLS = (0.1, 1.0, 5.0, 30.0)
HALF_DISK = (0.01, 0.05, 0.5)
SURGE = Surge(adapter=0.07, start=0.4, end=0.6, share=0.4)
"""For a fifth of the time, of an adapter that is seldom wanted otherwise."""


def full(seed: int) -> Plan:
    usual = Scenario("", 8, 1.0, 0.8, measured_profile("cpu"), seed=seed)
    calm = replace(usual, load=0.6, num_requests=4000)
    return {
        "main": tuple(
            one
            for exponent in EXPONENTS
            for count in REPLICAS
            for one in _each(
                replace(
                    usual,
                    exponent=exponent,
                    num_replicas=count,
                    num_requests=max(usual.num_requests, 500 * count),
                )
            )
        ),
        "calm": _each(calm),
        "half disk": _each(replace(usual, tiers=HALF_DISK)),
        "surge": _each(replace(calm, surge=SURGE)),
        "kill": _each(replace(calm, change="kill")),
        "add": _each(replace(calm, change="add")),
        "bound": tuple(
            replace(usual, routing="bounded hash", knobs=Knobs(load_bound=bound))
            for bound in BOUNDS
        ),
        "nodes": tuple(
            replace(usual, routing=routing, knobs=Knobs(nodes=nodes))
            for routing in ("hash", "bounded hash")
            for nodes in NODES
        ),
        "poll": tuple(
            replace(usual, routing="residency", knobs=Knobs(poll_s=poll)) for poll in POLLS
        ),
        "gpu": tuple(
            one
            for tiers in (usual.tiers, HALF_DISK)
            for one in _each(replace(usual, profile=ASSUMED_GPU, num_requests=2000, tiers=tiers))
        ),
    }


def short(seed: int) -> Plan:
    """Seconds: to see that all of it works."""
    small = {"num_adapters": 200, "num_requests": 100, "warm_requests": 100}
    return {
        name: tuple(replace(one, **small) for one in scenarios)
        for name, scenarios in full(seed).items()
    }


def _each(scenario: Scenario) -> tuple[Scenario, ...]:
    """By every routing; alone a replica gets all by any."""
    names = list(ROUTERS)[: 1 if scenario.num_replicas == 1 else None]
    return tuple(replace(scenario, routing=name) for name in names)
