"""From measured steps to a linear cost."""

from dataclasses import dataclass

import numpy as np

from tests.bench.fleet_simulation.profile import StepCost


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind of step, and the fastest of many of it."""

    num_decode: int
    num_prefill: int
    num_adapters: int
    seconds: float


def fit(samples: list[Sample], copy_seconds: float) -> tuple[StepCost, float]:
    """The cost and its largest relative error. Relative errors are what is made small, so that
    long steps do not decide alone; no cost is below 0."""
    rows = np.array([[1, s.num_decode, s.num_prefill, s.num_adapters] for s in samples], float)
    seconds = np.array([s.seconds for s in samples])
    kept = [0, 1, 2, 3]
    while True:
        scaled = rows[:, kept] / seconds[:, None]
        found, *_ = np.linalg.lstsq(scaled, np.ones(len(samples)), rcond=None)
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    costs = np.zeros(4)
    costs[kept] = found
    error = float(np.abs(rows @ costs / seconds - 1).max())
    return StepCost(*(round(float(one), 7) for one in (*costs, copy_seconds))), error
