"""Raw sockets against a real server: what no well-behaved client sends, and how slowly."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from service.api import connection
from service.api.connection import MAX_HEADERS, MAX_URL_BYTES
from service.api.server import server_config
from tests.api.conftest import World, wait_until
from tests.fakes import base_description

LIMITS = {
    "header_timeout_s": 0.4,
    "body_timeout_s": 0.4,
    "write_timeout_s": 0.5,
    "max_header_bytes": 4096,
    "max_connections": 4,
    "keep_alive_s": 1,
    "port": 0,
}
JSON_HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server(world: World) -> Iterator[uvicorn.Server]:
    world.settings |= LIMITS
    with serving(world) as server:
        yield server


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


@contextmanager
def serving(world: World) -> Iterator[uvicorn.Server]:
    app = world.app()
    server = uvicorn.Server(server_config(app, app.state.services.settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def read_all(client: socket.socket) -> bytes:
    """Until the server closes the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            data += piece
    return data


def exchange(port: int, *pieces: bytes) -> bytes:
    with connected(port) as client:
        for piece in pieces:
            client.sendall(piece)
        return read_all(client)


def refusal(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    assert b"x-request-id: " in head
    return int(head.split()[1]), json.loads(body)["error"]


def completion(**fields: Any) -> bytes:
    body = json.dumps({"model": "alpha", "prompt": "Hi", "max_tokens": 4, **fields}).encode()
    return f"{JSON_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


LONG = {
    "one": f"X-A: {'a' * 5000}\r\n",
    "sum": "".join(f"X-{i}: {'a' * 900}\r\n" for i in range(5)),
    "count": "".join(f"X-{i}: a\r\n" for i in range(MAX_HEADERS + 1)),
    "unfinished": "X-A: " + "a" * (4096 + MAX_URL_BYTES + 64),
    "name": "X" * 5000 + ": a\r\n",
}


@pytest.mark.parametrize("what", LONG)
def test_headers_are_bounded(port: int, what: str) -> None:
    end = "" if what == "unfinished" else "\r\n"
    answer = exchange(port, f"GET /health HTTP/1.1\r\nHost: x\r\n{LONG[what]}{end}".encode())
    status, error = refusal(answer)
    assert (status, error["code"]) == (431, "headers_too_large")


def test_the_address_is_bounded(port: int) -> None:
    for path in ("a" * MAX_URL_BYTES, "health?" + "a" * MAX_URL_BYTES):
        answer = exchange(port, f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert refusal(answer)[0] == 414


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /h\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /h\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"fffffffffffffffff\r\n",
    ],
)
def test_what_is_no_http_is_a_400_of_ours(port: int, request_: bytes, world: World) -> None:
    status, error = refusal(exchange(port, request_))
    assert (status, error["message"]) == (400, "This is not a valid HTTP request.")
    assert OK in exchange(port, b"GET /health HTTP/1.0\r\n\r\n"), "the next one is served"


def test_an_upgrade_is_not_made(port: int) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\n"
    assert OK in exchange(port, request + b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")


def test_headers_that_drip_are_a_408(port: int) -> None:
    with connected(port) as client:
        started = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):
            for letter in b"GET /health HTTP/1.1\r\nHost: " + b"x" * 200:
                client.sendall(bytes([letter]))
                time.sleep(0.02)
        assert time.monotonic() - started < 3
    with connected(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHo")
        assert refusal(read_all(client))[0] == 408


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_connection_without_a_request_is_closed_without_a_word(port: int, sent: bytes) -> None:
    with connected(port) as client:
        client.sendall(sent)
        started = time.monotonic()
        answer = read_all(client)
        assert answer == b"" or refusal(answer)[0] == 408
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["completions", "adapters", "nothing"])
def test_a_body_that_stalls_is_given_up(port: int, path: str, framing: str, world: World) -> None:
    """Also where nobody reads it."""
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n"
    with connected(port) as client:
        client.sendall(head.encode() + b"\r\n")
        started = time.monotonic()
        answer = b""
        while time.monotonic() - started < 9:
            piece = client.recv(1 << 16)
            answer += piece
            if not piece:
                break
        assert not piece, "the connection is closed"
        assert int(answer.split()[1]) == 408
    assert world.is_all_given_back()


def test_a_body_that_drips_is_given_up(port: int) -> None:
    """Never silent for long, and still slower than anybody needs to be."""
    with connected(port) as client:
        client.sendall(f"{JSON_HEAD}Content-Length: 5000\r\n\r\n".encode())
        started = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                client.sendall(b" ")
                time.sleep(0.05)
        assert time.monotonic() - started < 4


def test_an_idle_connection_is_closed_and_a_used_one_stays(port: int) -> None:
    with connected(port) as client:
        for _ in range(2):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1 << 16).startswith(OK)
            time.sleep(0.6)
        started = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - started < 3


def test_a_slow_answer_is_nobodys_fault(port: int, world: World) -> None:
    """Neither of the two waits for more of the request."""
    world.engine.seconds_per_token = 0.3
    answer = exchange(port, completion(max_tokens=4).replace(b"Host: x", b"Connection: close"))
    assert OK in answer


def test_a_client_that_does_not_read_is_given_up(world: World) -> None:
    """The answer is more than the system buffers."""
    world.settings |= LIMITS
    world.base = base_description(max_model_len=20_000)
    fields = {"stream": True, "max_tokens": 12_000, "ignore_eos": True, "logprobs": 20}
    with serving(world) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.servers[0].sockets[0].getsockname())
        client.sendall(completion(**fields))
        wait_until(lambda: len(world.engine.submitted) == 1)
        wait_until(world.is_all_given_back, seconds=20)
        assert len(world.engine.aborted) == 1
        wait_until(lambda: not server.server_state.connections, seconds=8)


def test_too_many_connections_get_a_503_that_is_json_and_probes_an_answer(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    try:
        time.sleep(0.1)
        answer = exchange(port, completion())
        status, error = refusal(answer)
        assert (status, error["code"]) == (503, "overloaded")
        assert b"retry-after: 5\r\n" in answer.lower()
        assert OK in exchange(port, b"GET /health HTTP/1.0\r\n\r\n")
    finally:
        for one in held:
            one.close()
    wait_until(lambda: OK in exchange(port, completion().replace(b"1.1", b"1.0")))


def test_beyond_the_reserve_not_even_probes_are_answered(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(4 + 64)]
    try:
        time.sleep(0.1)
        assert refusal(exchange(port, b""))[0] == 503
    finally:
        for one in held:
            one.close()


def test_requests_in_a_row_on_one_connection_are_bounded(port: int, world: World) -> None:
    world.engine.seconds_per_token = 0.2
    answer = exchange(port, completion() * 4000)
    assert answer.count(OK) <= 2
    wait_until(world.is_all_given_back)
    assert len(world.engine.submitted) <= 2


def test_garbage_behind_a_request_does_not_get_into_its_answer(port: int, world: World) -> None:
    world.engine.seconds_per_token = 0.02
    answer = exchange(port, completion(stream=True), b"\x00garbage\r\n\r\n")
    assert b"not a valid HTTP" not in answer or answer.count(b"HTTP/1.1") == 1
    assert answer.endswith((b"0\r\n\r\n", b"}}"))


def test_the_rest_of_a_refused_body_is_not_read_for_ever(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.5)
    head = "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    with connected(port) as client:
        client.sendall(head.encode())
        assert b"413" in client.recv(1 << 16)
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 12:
                client.sendall(b"x" * 1000)
                time.sleep(0.02)
        assert time.monotonic() - started < 4


def test_refusals_are_counted(port: int) -> None:
    exchange(port, b"nonsense\r\n\r\n")
    metrics = exchange(port, b"GET /metrics HTTP/1.0\r\n\r\n").decode()
    assert 'repertoire_requests_total{endpoint="connection",status="400"} 1.0' in metrics
