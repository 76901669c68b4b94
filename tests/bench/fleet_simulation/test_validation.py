"""The prediction is near the figures of a real fleet."""

import pytest

from tests.bench.fleet_simulation.validation import MEASURED, predict


def test_the_prediction_is_near_what_a_real_fleet_has_measured() -> None:
    for routing, share in predict(seconds=2.0).items():
        assert share == pytest.approx(MEASURED[routing], abs=0.05)
