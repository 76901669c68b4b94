"""A bar runs from end to end through a real server; no time is asserted here."""

from pathlib import Path

from tests.bench.engine.__main__ import run
from tests.bench.engine.results import load_results
from tests.bench.engine.setup import QUICK, Setup


def test_a_bar_is_measured_and_written_down(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "work", ("base-s",), QUICK)
    assert run(setup, [1], tmp_path / "results") == []
    (bars,) = load_results(tmp_path / "results").values()
    names = [figure.name for figure in bars[1].figures]
    assert "base-s, c=4: 4 adapters of rank 16 / base" in names
    assert all(figure.value > 0 for figure in bars[1].figures if not figure.unit)
    assert f"| {names[0]} |" in (tmp_path / "results" / "README.md").read_text()
    assert (tmp_path / "results" / "bars.svg").exists()
