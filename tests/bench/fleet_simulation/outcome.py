"""What a run has come to, in figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.fleet_simulation.fleet import Asked
from tests.bench.fleet_simulation.scenario import Run
from tests.bench.traffic import percentile

TIERS = ("device", "host", "disk", "store")
_SETTLING = 10
"""One part in so many of the requests is not counted: queues fill first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    requests: int
    tiers: dict[str, float]
    """Share of the answered requests by where their adapter was found."""
    first_token_p50_ms: float
    first_token_p99_ms: float
    balance: float
    """Requests of the busiest replica by the mean."""
    failed: float
    """Share of the requests that got no token: refused by a full house, lost, or too late."""
    lost: int
    """With the replica that was killed."""

    @property
    def in_memory(self) -> float:
        return self.tiers["device"] + self.tiers["host"]


def outcome(run: Run) -> Outcome:
    return judge(run.asked[len(run.asked) // _SETTLING :], run.scenario.num_replicas)


def around_change(run: Run, window_s: float) -> dict[str, Outcome]:
    """So many seconds before it, after it, and at the end."""
    at = run.changed_at
    assert at is not None
    last = run.asked[-1].at
    spans = {
        "before": (at - window_s, at),
        "after": (at, at + window_s),
        "end": (last - window_s, last),
    }
    count = run.scenario.num_replicas
    return {
        name: judge([one for one in run.asked if start <= one.at < end], count)
        for name, (start, end) in spans.items()
    }


def judge(asked: Sequence[Asked], num_replicas: int) -> Outcome:
    answered = [one for one in asked if one.tier and one.first_token is not None]
    waits = [1000 * (one.first_token - one.at) for one in answered if one.first_token is not None]
    found = Counter(one.tier for one in answered)
    by_replica = Counter(one.replica for one in asked)
    num_replicas = max(num_replicas, len(by_replica))  # one may have come meanwhile
    return Outcome(
        requests=len(asked),
        tiers={tier: round(found[tier] / max(1, len(answered)), 4) for tier in TIERS},
        first_token_p50_ms=round(percentile(waits, 0.5), 2),
        first_token_p99_ms=round(percentile(waits, 0.99), 2),
        balance=round(max(by_replica.values(), default=0) * num_replicas / max(1, len(asked)), 3),
        failed=round(1 - len(answered) / max(1, len(asked)), 4),
        lost=sum(one.problem == "lost" for one in asked),
    )
