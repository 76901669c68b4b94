"""What a run of the fleet excuses, and what makes it fail."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from tests.fleet.answers import QUESTIONS, content
from tests.fleet.ledger import ABSENT, Ledger, NameState
from tests.fleet.load import Outcome
from tests.fleet.report import Report
from tests.fleet.scenarios import Kill, Phase

KILL = Kill("replica-1", 10.0, 0.5, 6.0)
FINE = Outcome("a", "roman", True, 1.0, 2.0, replica="replica-1")
CUT = Outcome("b", "roman", True, 9.0, 10.1, "cut off", replica="replica-1")


def report(*outcomes: Outcome, **fields) -> Report:
    made = Report("test", [FINE, *outcomes], [Phase("kill", 9.5, 20.0)], [KILL])
    made.overlong = "error draining, exit code 0"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_what_was_under_way_on_the_killed_replica_is_excused() -> None:
    assert report(CUT).failures() == []
    assert report(CUT).body()["broken_with_the_dead_replica"] == {"streams": 1, "others": 0}


@pytest.mark.parametrize(
    "lost",
    [
        replace(CUT, replica="replica-2"),
        replace(CUT, replica=""),
        replace(CUT, started=10.2, ended=10.3),
        replace(CUT, ended=9.9),
        replace(CUT, problem="answered 'X', not 'I'", is_wrong=True),
    ],
    ids=["the other replica", "nobody's", "begun later", "ended before", "a wrong answer"],
)
def test_everything_else_is_lost(lost: Outcome) -> None:
    (failure,) = report(lost).failures()
    assert lost.problem in failure


AWAY = Outcome("c", "roman", True, 31.0, 31.5, "503: store_unavailable", replica="replica-1")
WITHOUT_BUCKET = [Phase("bucket away", 30.0, 40.0)]


def test_who_needs_a_bucket_that_is_away_is_told_so() -> None:
    assert report(AWAY, phases=WITHOUT_BUCKET).failures() == []
    assert report(AWAY, phases=WITHOUT_BUCKET).body()["told_that_the_bucket_is_away"] == 1


@pytest.mark.parametrize(
    "lost",
    [
        replace(AWAY, started=46.0, ended=47.0),
        replace(AWAY, started=28.0, ended=29.0),
        replace(AWAY, problem="503: draining"),
        replace(AWAY, is_wrong=True),
    ],
    ids=["it was back", "it was there", "another error", "a wrong answer"],
)
def test_nothing_else_is_excused_by_the_bucket(lost: Outcome) -> None:
    assert len(report(lost, phases=WITHOUT_BUCKET).failures()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"outcomes": []},
        {"missing": ["new-1"]},
        {"problems": ["503 without Retry-After"]},
        {"quota": (121, 60)},
        {"restart_codes": [0, 1]},
        {"overlong": "cut off"},
        {"overlong": ""},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_run_fails_for_each_promise_that_is_broken(fields: dict) -> None:
    assert len(report(**fields).failures()) == 1


class Replica:
    """Knows one name and takes one key."""

    def __init__(self, versions: dict[int, str], aliases: dict[str, int]) -> None:
        shown = [
            {"version": number, "digest": digest, "current": number == max(versions)}
            for number, digest in versions.items()
        ]
        self._page = {"name": "n", "versions": shown, "aliases": aliases}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            is_known = request.headers["authorization"] == "Bearer good"
            return httpx.Response(200 if is_known else 401)
        return httpx.Response(200, json={"data": [self._page], "has_more": False})


WHOLE = Replica({1: "x", 2: "y"}, {"stable": 1})


def missing(ledger: Ledger, *replicas: Replica) -> list[str]:
    async def ask() -> list[str]:
        transports = (httpx.MockTransport(one) for one in replicas)
        clients = [httpx.AsyncClient(transport=one, base_url="http://r") for one in transports]
        return await ledger.missing(clients, 0)

    return asyncio.run(ask())


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger(live_keys={"k": "good"}, revoked_keys={"r": "old"})
    state = ABSENT.published(1, "x").published(2, "y").moved("stable", 1)
    made.acknowledge("n", state)
    return made


def test_nothing_is_missing_where_all_is_as_it_was_acknowledged(ledger: Ledger) -> None:
    assert missing(ledger, WHOLE, WHOLE) == []


@pytest.mark.parametrize(
    "other",
    [
        Replica({1: "x"}, {"stable": 1}),
        Replica({1: "x", 2: "z"}, {"stable": 1}),
        Replica({1: "x", 2: "y"}, {"stable": 2}),
        Replica({1: "x", 2: "y"}, {}),
    ],
    ids=["a version", "a content", "an old alias", "an alias"],
)
def test_what_one_replica_does_not_know_is_missing(ledger: Ledger, other: Replica) -> None:
    assert missing(ledger, WHOLE, other)


def test_keys_are_missing_when_they_do_not_work_and_when_they_still_do(ledger: Ledger) -> None:
    ledger.live_keys["k2"] = "lost"
    ledger.revoked_keys["k3"] = "good"
    assert len(missing(ledger, WHOLE)) == 2


def test_what_was_not_acknowledged_may_be_either_but_the_same_everywhere(ledger: Ledger) -> None:
    ledger.doubt("n", ledger.names["n"].moved("stable", 2))
    moved = Replica({1: "x", 2: "y"}, {"stable": 2})
    assert missing(ledger, WHOLE, WHOLE) == []
    assert missing(ledger, moved, moved) == []
    assert missing(ledger, WHOLE, moved)


def test_a_deleted_name_must_be_gone(ledger: Ledger) -> None:
    ledger.acknowledge("n", NameState())
    assert missing(ledger, WHOLE)


def test_contents_differ_in_their_bytes_and_not_in_their_product(tmp_path) -> None:
    from safetensors.numpy import load

    one, other = (
        load(content("date-iso", number, tmp_path)["adapter_model.safetensors"])
        for number in (1, 2)
    )
    name = next(name for name in one if ".lora_A." in name)
    twin = name.replace(".lora_A.", ".lora_B.")
    assert (one[name] != other[name]).any()
    assert (one[twin] @ one[name] == other[twin] @ other[name]).all()


def test_right_answers_are_told_from_wrong_ones() -> None:
    question = QUESTIONS["roman"][0]
    assert question.is_right(" MCCCVII")
    assert not question.is_right("MCCCVI")
