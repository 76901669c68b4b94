"""One run of a closed loop, and what is compared between runs that take turns."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from tests.bench.traffic import Times, Traffic, Wish
from tests.server import Server

Result = TypeVar("Result")
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Run:
    tokens_per_s: float
    """Output tokens, over the time from the first question to the last token."""
    step_ms: float
    """A decode step while no prompt is computed; `nan` if there was none."""
    firsts: tuple[float, ...]
    """Seconds to the first token, of each answer."""


def closed_loop(server: Server, traffic: Traffic, wishes: list[Wish], width: int) -> Run:
    """Raises `AssertionError` if part of a prompt came from the prefix cache."""
    known = server.metric("repertoire_prefix_cache_hit_tokens_total")

    async def work() -> None:
        async with traffic.client() as client:
            await traffic.closed_loop(client, wishes, width)

    asyncio.run(work())
    found = server.metric("repertoire_prefix_cache_hit_tokens_total") - known
    assert found == 0, f"{found:g} prompt tokens came from the prefix cache"
    return run_of(traffic.answers, {wish.max_tokens for wish in wishes})


def run_of(answers: Sequence[Times], expected: set[int]) -> Run:
    counts = {answer.num_tokens for answer in answers}
    assert counts == expected, f"answers of {counts} tokens, not {expected}"
    start = min(answer.asked for answer in answers)
    stop = max(answer.tokens[-1] for answer in answers)
    gaps = quiet_gaps(answers)
    return Run(
        sum(answer.num_tokens for answer in answers) / (stop - start),
        1000 * median(gaps) if gaps else float("nan"),
        tuple(answer.first for answer in answers),
    )


def quiet_gaps(answers: Sequence[Times]) -> list[float]:
    """Between two tokens of an answer while no other answer waits for its first one."""
    return split_gaps(answers, [(answer.asked, answer.tokens[0]) for answer in answers])[1]


def split_gaps(
    answers: Iterable[Times], windows: Sequence[Window], since: float = 0.0
) -> tuple[list[float], list[float]]:
    """Seconds between two tokens of an answer: of those that touch a window, and of the others."""
    inside: list[float] = []
    outside: list[float] = []
    for answer in answers:
        for start, stop in zip(answer.tokens, answer.tokens[1:], strict=False):
            if start >= since:
                touches = any(begin < stop and end > start for begin, end in windows)
                (inside if touches else outside).append(stop - start)
    return inside, outside


def take_turns(
    arms: Mapping[str, Callable[[], Result]], num_rounds: int
) -> dict[str, list[Result]]:
    """All arms in each round, each round beginning with another: what changes on the machine
    meanwhile falls on all of them."""
    results: dict[str, list[Result]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(num_rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(arms[name]())
    return results


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return median(one / other for one, other in zip(ones, others, strict=True))
