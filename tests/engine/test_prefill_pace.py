"""Rows beside running answers follow what steps take."""

import pytest

from service.engine.prefill_pace import PrefillPace
from tests.engine.machine import Machine

ALONE, ROW = 0.010, 0.0002
"""Seconds of a step without prompt rows, and that a prompt row adds."""
FAIR = 100
"""Rows that make the step longer by twice its time without them."""


def observe(pace: PrefillPace, row: float = ROW) -> int:
    """Many steps of both kinds; the rows that a prompt gets beside 8 answers after them."""
    for _ in range(300):
        num_rows = pace.rows_beside(8)
        pace.note(8, 0, ALONE)
        pace.note(8, num_rows, ALONE + num_rows * row)
    return pace.rows_beside(8)


def test_before_both_kinds_of_steps_were_seen_it_is_a_fixed_number() -> None:
    pace = PrefillPace()
    start = pace.rows_beside(8)
    pace.note(8, 0, 1.0)
    assert pace.rows_beside(8) == start > 0


def test_what_is_fixed_stays() -> None:
    pace = PrefillPace(fixed=7)
    assert pace.rows_beside(8) == 7
    assert observe(pace) == 7


def test_rows_may_add_twice_the_step_without_them() -> None:
    assert observe(PrefillPace()) == pytest.approx(FAIR, abs=1)


def test_it_follows_what_rows_cost() -> None:
    pace = PrefillPace()
    observe(pace)
    assert observe(pace, row=ROW / 2) == pytest.approx(2 * FAIR, abs=2)
    assert observe(pace, row=ROW * 2) == pytest.approx(FAIR / 2, abs=2)


def test_a_prompt_goes_on_whatever_it_costs() -> None:
    assert observe(PrefillPace(), row=1000 * ROW) == 16


def test_a_step_that_was_held_up_says_little() -> None:
    pace = PrefillPace()
    observe(pace)
    pace.note(8, 0, 100 * ALONE)
    pace.note(8, FAIR, 100 * ALONE)
    assert pace.rows_beside(8) == pytest.approx(FAIR, rel=0.03)


def test_a_first_step_that_was_held_up_is_forgotten() -> None:
    pace = PrefillPace()
    pace.note(8, 0, 10 * ALONE)
    pace.note(8, 64, 20 * ALONE)
    assert observe(pace) == pytest.approx(FAIR, abs=1)


def test_steps_that_grow_with_their_answers_leave_rows_what_they_may_add() -> None:
    pace = PrefillPace()
    observe(pace)
    for _ in range(300):
        pace.note(8, 0, 3 * ALONE)
        pace.note(8, FAIR, 3 * ALONE + FAIR * ROW)
    assert pace.rows_beside(8) == pytest.approx(FAIR, abs=1)


def test_more_answers_at_once_are_another_step() -> None:
    pace = PrefillPace()
    observe(pace)
    assert pace.rows_beside(15) == pace.rows_beside(8)
    for _ in range(300):
        pace.note(40, 0, 4 * ALONE)
        pace.note(40, 100, 4 * ALONE + 100 * ROW)
    assert pace.rows_beside(40) == pytest.approx(4 * FAIR, abs=4)
    assert pace.rows_beside(8) == pytest.approx(FAIR, abs=1)


def test_a_step_without_answers_under_way_says_nothing() -> None:
    pace = PrefillPace()
    observe(pace)
    pace.note(0, 512, 1000.0)
    pace.note(0, 0, 1000.0)
    assert pace.rows_beside(8) == pytest.approx(FAIR, abs=1)


def test_the_engine_measures_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(max_num_batched_tokens=512, max_mixed_prefill_tokens=None, num_blocks=9000)
    now = 0.0
    run = machine.runner.run

    def timed(step):
        nonlocal now
        now += ALONE + (len(step.token_ids) - step.num_decode) * ROW
        return run(step)

    monkeypatch.setattr(machine.runner, "run", timed)
    monkeypatch.setattr("service.engine.engine.perf_counter", lambda: now)
    machine.add(1, max_tokens=1000)
    for _ in range(300):
        machine.step()
    long = machine.add(20000)
    for _ in range(150):
        machine.step()
    rows = [one.num_rows for one in machine.runner.steps[-1].segments if one.request_id == long]
    assert rows == [pytest.approx(FAIR, abs=1)]
