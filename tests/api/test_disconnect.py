"""The client leaves: every sequence is aborted and every adapter version given back, once."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from service.api.streaming import ClosingStreamingResponse
from service.core import GenerationRequest
from tests.api.conftest import World, run, serve, wait_until

BODIES = {
    "completion": ("/v1/completions", {"model": "alpha", "prompt": "Hi", "max_tokens": 100}),
    "chat": (
        "/v1/chat/completions",
        {"model": "alpha", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    ),
}


def endless(request: GenerationRequest) -> str:
    return "word " * 1000


@pytest.fixture
def port(world: World) -> Iterator[int]:
    world.engine.reply = endless
    with serve(world.app()) as address:
        yield int(address.rsplit(":", 1)[1])


def send(port: int, path: str, body: dict[str, Any]) -> socket.socket:
    raw = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return connection


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
def test_while_it_runs(world: World, port: int, kind: str, n: int, is_streamed: bool) -> None:
    world.engine.seconds_per_token = 0.02
    path, body = BODIES[kind]
    connection = send(port, path, {**body, "stream": is_streamed, "n": n})
    if is_streamed:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    wait_until(lambda: len(world.engine.num_tokens) == n)
    connection.close()
    wait_until(world.is_all_given_back)
    assert len(world.engine.aborted) == n
    num_tokens = dict(world.engine.num_tokens)
    assert max(num_tokens.values()) < 50
    asyncio.run(asyncio.sleep(0.1))
    assert world.engine.num_tokens == num_tokens, "it went on after its client was gone"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
def test_before_the_first_token(world: World, n: int, is_streamed: bool) -> None:
    """Queued, or waiting for a cold load: no event ever comes."""
    world.engine.first_token = asyncio.Event()
    with serve(world.app()) as address:
        path, body = BODIES["chat"]
        port = int(address.rsplit(":", 1)[1])
        connection = send(port, path, {**body, "stream": is_streamed, "n": n})
        wait_until(lambda: len(world.engine.submitted) == n)
        connection.close()
        wait_until(world.is_all_given_back)
    assert len(world.engine.aborted) == n


def test_after_headers_but_before_the_first_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.answering.FIRST_TOKEN_SECONDS", 0.05)
    world.engine.first_token = asyncio.Event()
    with serve(world.app()) as address:
        path, body = BODIES["chat"]
        connection = send(int(address.rsplit(":", 1)[1]), path, {**body, "stream": True})
        received = b""
        while b'"role":"assistant"' not in received:
            received += connection.recv(2000)
        connection.close()
        wait_until(world.is_all_given_back)
    assert len(world.engine.aborted) == 1


def test_a_client_that_stays_is_not_aborted(world: World, port: int) -> None:
    path, body = BODIES["completion"]
    connection = send(port, path, {**body, "max_tokens": 5})
    assert connection.recv(4000).startswith(b"HTTP/1.1 200")
    wait_until(world.is_all_given_back)
    assert world.engine.aborted == []


class Gone(OSError):
    pass


class Owner:
    """Stands for the answer: counts how often it is closed."""

    def __init__(self) -> None:
        self.num_closed = 0
        self.is_generator_closed = False

    async def frames(self) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "data: x\n\n"
                await asyncio.sleep(0)
        finally:
            self.is_generator_closed = True

    async def close(self) -> None:
        self.num_closed += 1


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("num_sends", [0, 1, 5])
def test_a_response_closes_its_answer_when_sending_fails(spec_version: str, num_sends: int) -> None:
    """Through `__call__`, with the exception kept alive, so that collection cannot help."""
    owner = Owner()
    kept: list[BaseException] = []

    async def call() -> None:
        num_left = num_sends

        async def send(message: Any) -> None:
            nonlocal num_left
            if not num_left:
                raise Gone
            num_left -= 1

        async def receive() -> Any:
            await asyncio.sleep(3600)

        scope = {"type": "http", "asgi": {"spec_version": spec_version}}
        try:
            await ClosingStreamingResponse(owner.frames(), owner.close, {})(scope, receive, send)
        except BaseException as error:
            kept.append(error)
        assert owner.num_closed == 1
        assert owner.is_generator_closed or num_sends == 0

    run(call())
    assert kept


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
def test_a_response_closes_its_answer_when_it_is_cancelled(spec_version: str) -> None:
    owner = Owner()

    async def call() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(3600)

        async def receive() -> Any:
            await asyncio.sleep(3600)

        scope = {"type": "http", "asgi": {"spec_version": spec_version}}
        response = ClosingStreamingResponse(owner.frames(), owner.close, {})
        task = asyncio.create_task(response(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(call())
    assert owner.num_closed == 1
    assert owner.is_generator_closed


def test_silence_is_filled_with_comments() -> None:
    bodies: list[bytes] = []

    async def slow() -> AsyncGenerator[str, None]:
        await asyncio.sleep(0.25)
        yield "data: x\n\n"

    async def close() -> None:
        pass

    async def call() -> None:
        async def send(message: Any) -> None:
            bodies.append(message.get("body", b"start"))

        async def receive() -> Any:
            await asyncio.sleep(3600)

        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await ClosingStreamingResponse(slow(), close, {}, keep_alive_seconds=0.1)(
            scope, receive, send
        )
        await asyncio.sleep(0.3)

    run(call())
    assert bodies == [b"start", b": keep-alive\n\n", b": keep-alive\n\n", b"data: x\n\n", b""]
