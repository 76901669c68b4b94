"""What is made of the times of answers."""

from statistics import median

import pytest

from tests.bench.engine.runs import median_ratio, quiet_gaps, run_of, take_turns
from tests.bench.traffic import Times


def test_gaps_in_which_a_prompt_is_computed_are_no_decode_steps() -> None:
    running = Times(0.0, [1.0, 2.0, 5.0, 6.0], 4)
    late = Times(2.5, [4.5, 5.5], 2)
    assert quiet_gaps([running, late]) == [1.0, 1.0, 1.0]
    assert quiet_gaps([Times(0.0, [1.0, 2.0], 2), Times(0.5, [2.5], 1)]) == []


def test_a_run_counts_the_tokens_that_the_server_counts() -> None:
    answers = [Times(0.0, [1.0, 3.0], 3), Times(1.0, [4.0], 3)]
    assert run_of(answers, {3}).tokens_per_s == 6 / 4
    with pytest.raises(AssertionError, match="answers of"):
        run_of(answers, {4})


def test_arms_take_turns_and_no_arm_is_always_first() -> None:
    order = []
    arms = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert take_turns(arms, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert order == list("abbaab")


def test_a_round_that_was_slow_for_both_does_not_change_the_ratio() -> None:
    ones, others = [80.0, 40.0, 45.0], [100.0, 50.0, 100.0]
    assert median_ratio(ones, others) == 0.8
    assert median(ones) / median(others) != 0.8


def test_times_are_those_of_texts_however_the_bytes_arrive() -> None:
    frames = (
        b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'
        b'data: {"choices":[{"index":0,"text":"b","finish_reason":"length"}]}\n\n'
        b'data: {"choices":[],"usage":{"completion_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    for size in (1, 7, len(frames)):
        times = Times(0.0)
        for at in range(0, len(frames), size):
            times.take(frames[at : at + size], float(at))
        assert (len(times.tokens), times.num_tokens) == (2, 3)


def test_an_answer_of_one_token_without_text_has_come_nevertheless() -> None:
    times = Times(1.0)
    times.take(b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n', 3.0)
    assert times.first == 2.0


def test_an_error_in_a_stream_is_no_short_answer() -> None:
    with pytest.raises(AssertionError, match="overloaded"):
        Times(0.0).take(b'data: {"error":{"message":"overloaded"}}\n', 1.0)
