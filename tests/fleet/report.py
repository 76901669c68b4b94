"""What a run has shown, and what of it must not be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.machine_class import machine_class
from tests.bench.traffic import percentile
from tests.fleet.changes import Arrival
from tests.fleet.load import Outcome
from tests.fleet.scenarios import BUCKET_AWAY, REDIS_AWAY, Kill, Phase

NOTICED_LATE_S = 5.0
"""After a bucket is back, until nobody remembers any more that it was away."""


def died_with(outcome: Outcome, kills: Sequence[Kill]) -> bool:
    """It was under way on a replica that was killed then."""
    return any(
        outcome.replica == kill.replica and outcome.started <= kill.at <= outcome.ended
        for kill in kills
    )


def needed_the_bucket(outcome: Outcome, phases: Sequence[Phase]) -> bool:
    """It was told that the bucket is away, while it was: its replica had never had the adapter."""
    return "store_unavailable" in outcome.problem and any(
        outcome.ended >= phase.start and outcome.started <= phase.end + NOTICED_LATE_S
        for phase in phases
        if phase.name == BUCKET_AWAY
    )


@dataclass(slots=True)
class Report:
    form: str
    outcomes: list[Outcome] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    restart_codes: list[int] = field(default_factory=list)
    overlong: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    missing: list[str] = field(default_factory=list)
    """Of what was acknowledged."""
    quota: tuple[int, int] = (0, 0)
    """Most requests granted in any minute, and the limit."""
    hit_rates: dict[str, float] = field(default_factory=dict)
    """Share of requests whose adapter was in memory, by routing."""
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.problem and not self.is_excused(one)]

    def is_excused(self, outcome: Outcome) -> bool:
        is_excused = died_with(outcome, self.kills) or needed_the_bucket(outcome, self.phases)
        return is_excused and not outcome.is_wrong

    def failures(self) -> list[str]:
        """Empty = nothing was lost, and nothing broke that must not."""
        most, limit = self.quota
        found = [*self.problems, *(f"acknowledged, but {one}" for one in self.missing)]
        found += [
            f"{one.model} by {one.replica or '?'} in {self.phase_of(one)}: {one.problem}"
            for one in self.lost
        ]
        if not any(not one.problem for one in self.outcomes):
            found.append("no request was answered")
        if limit and most > 2 * limit:
            found.append(f"{most} requests within a minute, where {limit} are allowed")
        found += [f"SIGTERM: exit code {code}" for code in self.restart_codes if code]
        if not self.overlong.startswith("error ") or not self.overlong.endswith("code 0"):
            found.append(f"a stream longer than the drain time {self.overlong or 'was not tried'}")
        return found

    def phase_of(self, outcome: Outcome) -> str:
        return next((p.name for p in self.phases if p.start <= outcome.ended <= p.end), "between")

    def body(self) -> dict[str, Any]:
        excused = [one for one in self.outcomes if one.problem and self.is_excused(one)]
        dead = [one for one in excused if not needed_the_bucket(one, self.phases)]
        return {
            "form": self.form,
            "machine": machine_class(),
            "requests": len(self.outcomes),
            "streams": sum(one.is_stream for one in self.outcomes),
            "wrong_answers": sum(one.is_wrong for one in self.outcomes),
            "kills": len(self.kills),
            "broken_with_the_dead_replica": {
                "streams": sum(one.is_stream for one in dead),
                "others": sum(not one.is_stream for one in dead),
            },
            "told_that_the_bucket_is_away": len(excused) - len(dead),
            "requests_by_phase": self._by_phase(),
            "seconds_until_kill_noticed": [round(k.seconds_until_noticed, 2) for k in self.kills],
            "seconds_until_back": [round(kill.seconds_until_back, 2) for kill in self.kills],
            "stream_longer_than_drain": self.overlong,
            "upload_known_to_other_replica_ms": _milliseconds(
                [one.seconds_until_known for one in self._told()]
            ),
            "upload_answered_by_other_replica_ms": _milliseconds(
                [one.seconds_until_answered for one in self._told()]
            ),
            "upload_known_at_latest_while_redis_is_away_s": round(
                max((one.seconds_until_known for one in self._untold()), default=0.0), 1
            ),
            "changes": {"acknowledged": self.acknowledged, **self.counts},
            "acknowledged_and_lost": len(self.missing),
            "quota": {"limit": self.quota[1], "most_in_a_minute": self.quota[0]},
            "adapter_in_memory": {name: round(rate, 4) for name, rate in self.hit_rates.items()},
            "failures": self.failures(),
        }

    def _told(self) -> list[Arrival]:
        untold = self._untold()
        return [one for one in self.arrivals if one not in untold]

    def _untold(self) -> list[Arrival]:
        """Under way while Redis was away: the other replica had to look for itself."""
        outages = [phase for phase in self.phases if phase.name == REDIS_AWAY]
        return [
            one
            for one in self.arrivals
            for phase in outages
            if one.acknowledged <= phase.end
            and one.acknowledged + one.seconds_until_known >= phase.start
        ]

    def _by_phase(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for one in self.outcomes:
            row = counts.setdefault(self.phase_of(one), {"requests": 0, "lost": 0, "excused": 0})
            row["requests"] += 1
            if one.problem:
                row["excused" if self.is_excused(one) else "lost"] += 1
        return counts

    def table(self) -> str:
        body = self.body()
        lines = [body["machine"], "", f"{'phase':24}{'requests':>10}{'lost':>7}{'excused':>9}"]
        for name, row in body["requests_by_phase"].items():
            lines.append(f"{name:24}{row['requests']:10}{row['lost']:7}{row['excused']:9}")
        excuse = "under way on the replica that was killed, or in need of a bucket that was away"
        lines += [f"  (excused: {excuse})", ""]
        skipped = {"machine", "form", "requests_by_phase", "failures"}
        for name, value in body.items():
            if name not in skipped:
                shown = value if isinstance(value, str) else json.dumps(value)
                lines.append(f"{name.replace('_', ' '):36}{shown.strip('{}[]')}")
        failures = body["failures"]
        lines += ["", *(f"FAILED: {one}" for one in failures[:40])]
        lines.append(f"{len(failures)} failures" if failures else "nothing was lost")
        return "\n".join(lines)


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"uploads": 0}
    values = [1000 * one for one in seconds]
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99}
    figures = {name: round(percentile(values, share), 1) for name, share in shares.items()}
    return {"uploads": len(seconds), **figures}
