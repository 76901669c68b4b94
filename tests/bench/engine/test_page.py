"""The page and its files: what was measured where, and what was not."""

from math import nan
from pathlib import Path

import pytest

from tests.bench.engine import results as results_module
from tests.bench.engine.figures import Figure
from tests.bench.engine.page import render
from tests.bench.engine.plot import draw
from tests.bench.engine.results import BarResult, Circumstances, add_result, load_results
from tests.bench.machine_class import class_of

TITLES = {1: "Mixed", 2: "Alone"}


def result(number: int, *figures: Figure) -> BarResult:
    about = Circumstances("A processor", (0.1, 0.2, 0.3), 40.0, "commit abc", "2026-01-01", {})
    return BarResult(number, about, 1.0, figures)


def page(results: results_module.Results) -> str:
    return render(TITLES, results, num_prompt=128, num_output=64)


def test_limits_are_met_or_not() -> None:
    assert Figure("a", 0.9, at_least=0.88).is_met is True
    assert Figure("a", 0.9, at_most=0.88).is_met is False
    assert Figure("a", nan, at_least=0.88).is_met is False
    assert Figure("a", nan, at_most=0.88).is_met is False
    assert Figure("a", 0.9).is_met is None
    assert Figure("a", 2.0, at_most=4.0).margin == Figure("a", 4.0, at_least=2.0).margin == 2.0


def test_classes_stand_side_by_side_with_their_own_limits() -> None:
    text = page(
        {
            "amx": {1: result(1, Figure("ratio", 1.5, at_least=1.65))},
            "avx512-bf16": {1: result(1, Figure("ratio", 1.9, at_least=1.8))},
        }
    )
    assert "| | AMX | AVX512 with bf16, no AMX |" in text
    assert "| ratio | 1.50 ✗ (≥ 1.65) | 1.90 ✓ (≥ 1.8) |" in text


def test_what_was_not_measured_says_so() -> None:
    text = page({"avx2": {1: result(1, Figure("speed", 1234.0, "tokens/s", note="why"))}})
    assert "| speed | not measured | not measured | 1,234 tokens/s |" in text
    assert "- speed: why." in text
    assert "| | not measured | not measured | not measured |" in text.split("## 2.")[1]
    assert "40 % of the processors busy with other work, DISTURBED" in text


def test_a_bar_measured_anew_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "instruction_class", lambda: "amx")
    first, second, other = (result(n, Figure("a", v)) for n, v in ((1, 1.0), (1, 2.0), (2, 3.0)))
    for one in (other, first, second):
        add_result(tmp_path, one)
    assert load_results(tmp_path) == {"amx": {1: second, 2: other}}


def test_the_plot_shows_every_limit_and_is_the_same_again(tmp_path: Path) -> None:
    figures = Figure("met", 0.9, at_least=0.8), Figure("missed", 0.9, at_most=0.8), Figure("x", 1)
    results = {"amx": {1: result(1, *figures)}, "avx2": {1: result(1, figures[0])}}
    for name in ("a.svg", "b.svg"):
        draw(results, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "1. met" in text
    assert "1. missed" in text
    assert "1. x" not in text


def test_a_machine_belongs_to_the_fastest_class_that_it_has() -> None:
    assert class_of({"avx2", "avx512f", "avx512_bf16", "amx_bf16"}) == "amx"
    assert class_of({"avx2", "avx512f", "avx512_bf16"}) == "avx512-bf16"
    assert class_of(set()) == "other"
