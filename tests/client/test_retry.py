"""What is sent again, how often, and after how long."""

from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import pytest

from service.client import AsyncClient, Client, RetryPolicy, ServerFailed, Throttled
from service.client.retry import RetryPolicy as Policy
from tests.api.conftest import run

BUSY = {"error": {"message": "Busy.", "type": "server_error", "param": None, "code": "overloaded"}}
DONE = {"name": "a", "version": None, "deleted": True}


def busy(status: int = 503, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, json=BUSY, headers=sent)


@pytest.mark.parametrize(
    ("status", "headers", "attempt", "is_repeatable", "wait"),
    [
        (503, {"retry-after": "5"}, 1, True, 5.0),
        (429, {"retry-after": "0"}, 2, True, 0.0),
        (503, {"retry-after": "5"}, 3, True, None),
        (503, {"retry-after": "31"}, 1, True, None),
        (503, {"retry-after": "5"}, 1, False, None),
        (503, {}, 1, True, None),
        (503, {"retry-after": "Wed, 25 Nov 2026 01:00:00 GMT"}, 1, True, None),
        (503, {"retry-after": "-1"}, 1, True, None),
        (503, {"retry-after": "5", "x-should-retry": "false"}, 1, True, None),
        (500, {"retry-after": "5"}, 1, True, None),
        (504, {"retry-after": "5"}, 1, True, None),
        (200, {"retry-after": "5"}, 1, True, None),
    ],
)
def test_when_a_call_is_sent_again(
    status: int, headers: dict[str, str], attempt: int, is_repeatable: bool, wait: float | None
) -> None:
    assert Policy().wait_s(status, headers, attempt, is_repeatable=is_repeatable) == wait


class Answers:
    """Gives one answer after the other; keeps what was asked."""

    def __init__(self, *responses: httpx.Response) -> None:
        self.responses = list(responses)
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        return self.responses.pop(0)

    async def awaited(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        return self.responses.pop(0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []

    async def sleep(wait: float) -> None:
        seconds.append(wait)

    monkeypatch.setattr("service.client.transport.time.sleep", seconds.append)
    monkeypatch.setattr(anyio, "sleep", sleep)
    return seconds


def delete_blocking(answers: Answers) -> bool:
    with Client(transport=httpx.MockTransport(answers)) as client:
        return client.adapters.delete("a").deleted


def delete_awaiting(answers: Answers) -> bool:
    async def work() -> bool:
        async with AsyncClient(transport=httpx.MockTransport(answers.awaited)) as client:
            return (await client.adapters.delete("a")).deleted

    return run(work())


DELETES = pytest.mark.parametrize("delete", [delete_blocking, delete_awaiting])


@DELETES
def test_a_busy_server_is_asked_again_when_it_says(
    delete: Callable[[Answers], bool], slept: list[float]
) -> None:
    answers = Answers(
        busy(retry_after="7"), busy(429, retry_after="2"), httpx.Response(200, json=DONE)
    )
    assert delete(answers)
    assert slept == [7.0, 2.0]


@DELETES
def test_in_the_end_the_error_says_how_long(
    delete: Callable[[Answers], bool], slept: list[float]
) -> None:
    answers = Answers(*(busy(429, retry_after="1") for _ in range(3)))
    with pytest.raises(Throttled) as error:
        delete(answers)
    assert (error.value.retry_after, len(answers.bodies), slept) == (1.0, 3, [1.0, 1.0])


def test_a_rollback_is_never_sent_twice(slept: list[float]) -> None:
    answers = Answers(busy(retry_after="1"))
    with Client(transport=httpx.MockTransport(answers)) as client, pytest.raises(ServerFailed):
        client.adapters.rollback("a")
    assert slept == []


def test_an_upload_is_sent_again_from_its_first_byte(slept: list[float], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(b"x" * 100_000)
    answers = Answers(busy(retry_after="1"), busy(507, x_should_retry="false"))
    seen: list[tuple[int, int]] = []
    with Client(transport=httpx.MockTransport(answers)) as client, pytest.raises(ServerFailed):
        client.adapters.push("a", tmp_path, on_progress=lambda *at: seen.append(at))
    assert [body.count(b"x" * 100_000) for body in answers.bodies] == [1, 1]
    ends = [at for at in seen if at[0] == at[1]]
    assert len(ends) == 2


def test_nothing_is_repeated_where_that_is_not_wanted(slept: list[float]) -> None:
    answers = Answers(busy(retry_after="1"))
    once = RetryPolicy(num_attempts=1)
    with (
        Client(retry=once, transport=httpx.MockTransport(answers)) as client,
        pytest.raises(ServerFailed),
    ):
        client.version()
    assert slept == []


def test_a_draining_server_is_an_answer_and_no_error(slept: list[float]) -> None:
    draining = httpx.Response(503, json={"status": "draining"}, headers={"retry-after": "1"})
    with Client(transport=httpx.MockTransport(Answers(draining))) as client:
        assert not client.ready().is_ready
    assert slept == []
