"""Tables find their places on the page, and the prediction the figures of a real fleet."""

from pathlib import Path
from shutil import copyfile

import pytest

from tests.bench.fleet_simulation import plan
from tests.bench.fleet_simulation.fleet import Asked
from tests.bench.fleet_simulation.outcome import judge
from tests.bench.fleet_simulation.page import PAGE, PLOT, renew
from tests.bench.fleet_simulation.results import Result
from tests.bench.fleet_simulation.tables import tables
from tests.bench.fleet_simulation.validation import MEASURED, predict

FIGURES = judge([Asked(0.0, 0, 0, "host", 0.1, 0.2)], num_replicas=1)


def test_every_table_has_its_place_and_the_words_stay(tmp_path: Path) -> None:
    page = tmp_path / "ROUTING.md"
    copyfile(PAGE, page)
    results = {
        name: tuple(
            Result(one, 1.0, FIGURES, dict.fromkeys(("before", "after", "end"), FIGURES), 0.123)
            for one in scenarios
        )
        for name, scenarios in plan.full(seed=0).items()
    }
    renew(page, tables(results, "| the validation |"))
    before, after = PAGE.read_text().splitlines(), page.read_text().splitlines()
    assert "| the validation |" in after
    assert "12.3 %" in page.read_text()
    assert _words(before) == _words(after)
    assert f"({PLOT.name})" in PAGE.read_text()


def test_a_table_without_a_place_is_told(tmp_path: Path) -> None:
    page = tmp_path / "ROUTING.md"
    page.write_text("<!-- table: costs -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="surge"):
        renew(page, {"costs": "", "surge": ""})


def test_the_prediction_is_near_what_a_real_fleet_has_measured() -> None:
    for routing, share in predict(seconds=2.0).items():
        assert share == pytest.approx(MEASURED[routing], abs=0.05)


def _words(lines: list[str]) -> list[str]:
    return [line for line in lines if line and not line.startswith(("|", "Measured on:"))]
