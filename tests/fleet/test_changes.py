"""What a change through the balancer may be told, and what a race may come to."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.fleet import changes as changes_module
from tests.fleet.changes import Changes, NotDone
from tests.fleet.ledger import ABSENT, Ledger

CUT, BAD_GATEWAY, DONE, NOT_FOUND = None, 502, 200, 404


class Answers:
    """One after the other; None is a connection that ends without one."""

    def __init__(self, *statuses: int | None) -> None:
        self._statuses = list(statuses)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        status = self._statuses.pop(0)
        if status is None:
            raise httpx.ReadError("cut")
        return httpx.Response(status, headers={"etag": '"1"'}, json={})


Play = Callable[[Changes], Awaitable[object]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Changes]:
    monkeypatch.setattr(changes_module, "PAUSE_SECONDS", 0.0)

    def run(work: Play, balancer: Answers, *replicas: Answers) -> Changes:
        async def main() -> Changes:
            asked = [
                httpx.AsyncClient(transport=httpx.MockTransport(one), base_url="http://r")
                for one in (balancer, *replicas)
            ]
            ledger = Ledger()
            ledger.acknowledge("n", ABSENT.published(1, "x").published(2, "y"))
            changes = Changes(ledger, asked[0], asked[1:])
            await work(changes)
            return changes

        return asyncio.run(main())

    return run


@pytest.mark.parametrize("first", [CUT, BAD_GATEWAY])
def test_what_was_cut_is_tried_again_and_may_have_been_made(play, first: int | None) -> None:
    changes = play(lambda one: one.delete("n"), Answers(first, NOT_FOUND))
    assert changes.ledger.names["n"] == ABSENT
    assert changes.counts == {"cut": 1}


def test_what_was_acknowledged_and_is_not_known_is_lost(play) -> None:
    with pytest.raises(NotDone, match="404"):
        play(lambda one: one.delete("n"), Answers(NOT_FOUND))


def test_a_refusal_says_when_to_ask_again(play) -> None:
    changes = play(lambda one: one.delete("n"), Answers(503, DONE))
    (problem,) = changes.problems
    assert "503 without Retry-After" in problem


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        ((DONE, 412), ""),
        ((503, 412), ""),
        ((DONE, DONE), "both acknowledged"),
        ((DONE, NOT_FOUND), "race for n: 404"),
    ],
)
def test_of_moves_on_one_etag_one_wins_at_most(play, ends: tuple[int, int], problem: str) -> None:
    one, other = Answers(DONE, ends[0]), Answers(ends[1])
    changes = play(lambda racing: racing.race("n", 3), Answers(), one, other)
    assert [problem in one for one in changes.problems] == [True] * bool(problem)
    assert changes.counts["raced"] == (DONE in ends and "both" not in problem)


def test_what_became_of_a_move_that_was_cut_is_not_known(play) -> None:
    changes = play(lambda one: one.race("n", 3), Answers(), Answers(DONE, CUT), Answers(412))
    assert len(changes.ledger.allowed("n")) == 2


@pytest.mark.parametrize(("seen", "num_problems"), [(503, 0), (CUT, 0), (NOT_FOUND, 1)])
def test_a_replica_may_be_away_but_has_not_forgotten(play, seen, num_problems: int) -> None:
    changes = play(lambda one: one.race("n", 3), Answers(), Answers(seen), Answers())
    assert len(changes.problems) == num_problems
