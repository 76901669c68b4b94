"""Runs a plan and keeps what came of it, as plain data."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.fleet_simulation.outcome import TIERS, Outcome, around_change, outcome
from tests.bench.fleet_simulation.plan import Plan
from tests.bench.fleet_simulation.scenario import Run, Scenario, run

WINDOW_S = 2.0
"""Before and after a change."""


@dataclass(frozen=True, slots=True)
class Result:
    scenario: Scenario
    rate: float
    """Requests per second that came in."""
    whole: Outcome
    windows: Mapping[str, Outcome]
    """`before`, `after` a change and at the `end`; empty without one."""
    moved: float | None

    def body(self) -> dict[str, Any]:
        one = self.scenario
        return {
            "routing": one.routing,
            "replicas": one.num_replicas,
            "zipf": one.exponent,
            "load": one.load,
            "profile": one.profile.name,
            "adapters": one.num_adapters,
            "room": dict(zip(TIERS, one.tiers, strict=False)),
            "surge": asdict(one.surge) if one.surge else None,
            "change": one.change,
            **asdict(one.knobs),
            "seed": one.seed,
            "requests_per_second": round(self.rate, 2),
            **asdict(self.whole),
            "moved": self.moved,
            "windows": {name: asdict(figures) for name, figures in self.windows.items()},
        }


Results = Mapping[str, tuple[Result, ...]]


def simulate(plan: Plan, say: Callable[[str], None]) -> Results:
    return {name: tuple(_one(scenario, say) for scenario in plan[name]) for name in plan}


def _one(scenario: Scenario, say: Callable[[str], None]) -> Result:
    done = run(scenario)
    result = result_of(done)
    figures = result.whole
    say(
        f"{scenario.routing:22}{scenario.num_replicas:3} replicas, zipf {scenario.exponent}:"
        f" {100 * figures.in_memory:5.1f} % in memory, first token"
        f" {figures.first_token_p50_ms:.0f} ms, p99 {figures.first_token_p99_ms:.0f} ms,"
        f" balance {figures.balance:.2f}"
    )
    return result


def result_of(done: Run) -> Result:
    windows = around_change(done, WINDOW_S) if done.changed_at is not None else {}
    return Result(done.scenario, done.rate, outcome(done), windows, done.moved)


def body(results: Results) -> dict[str, Any]:
    return {name: [one.body() for one in group] for name, group in results.items()}
