"""A bar runs from end to end through a real server; no time is asserted here."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench.engine.__main__ import BARS, run
from tests.bench.engine.figures import Figure
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


def test_a_bar_that_this_machine_cannot_measure_leaves_what_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path / "work", ("base-s",), QUICK)
    for yielded in ([Figure("of a GPU", 1.0)], []):
        bar = SimpleNamespace(__doc__="A bar.", measure=lambda _, some=yielded: iter(some))
        monkeypatch.setitem(BARS, 1, bar)
        assert run(setup, [1], tmp_path) == []
    (bars,) = load_results(tmp_path).values()
    assert [figure.name for figure in bars[1].figures] == ["of a GPU"]


def test_a_bar_that_fails_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(setup: Setup) -> None:
        raise AssertionError("no server")

    setup = Setup(tmp_path / "work", ("base-s",), QUICK)
    fine = SimpleNamespace(__doc__="Fine.", measure=lambda _: iter([Figure("it", 1.0)]))
    monkeypatch.setitem(BARS, 1, SimpleNamespace(__doc__="Broken.", measure=fail))
    monkeypatch.setitem(BARS, 2, fine)
    assert run(setup, [1, 2], tmp_path) == ["1. Broken"]
    (bars,) = load_results(tmp_path).values()
    assert list(bars) == [2]


def test_no_two_adapters_have_the_same_content(tmp_path: Path) -> None:
    """A store would keep them once, and a step would have fewer adapters than it seems."""
    setup = Setup(tmp_path, ("base-s",), QUICK)
    names = [*setup.same_rank("base-s", 32), *setup.mixed_rank("base-s")]
    folders = (setup.adapter_folder("base-s", name) for name in names)
    contents = {(folder / "adapter_model.safetensors").read_bytes() for folder in folders}
    assert len(contents) == len(names)
