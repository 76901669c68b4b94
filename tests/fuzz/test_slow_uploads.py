"""Uploads that stop half way, or whose parts never begin, on a real server with a real store."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn

from service.api.server import server_config
from tests.api.conftest import wait_until
from tests.fuzz.app import FuzzedApp, upload

LIMITS = {"header_timeout_s": 0.5, "body_timeout_s": 0.5, "write_timeout_s": 0.5, "port": 0}


@pytest.fixture
def fuzzed(tmp_path: Path) -> FuzzedApp:
    fuzzed = FuzzedApp(tmp_path)
    fuzzed.world.settings |= LIMITS
    fuzzed.house.store.open()
    return fuzzed


@pytest.fixture
def address(fuzzed: FuzzedApp) -> Iterator[tuple[str, int]]:
    app = fuzzed.app()
    server = uvicorn.Server(server_config(app, app.state.services.settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(timeout=10)


def head(content_length: int) -> bytes:
    _, content_type = upload()
    return (
        f"POST /v1/adapters HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {content_length}\r\n\r\n"
    ).encode()


def is_clean(fuzzed: FuzzedApp) -> bool:
    return not list(fuzzed.house.store.temporary.iterdir())


def read(client: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            answer += piece
    return answer


def test_an_upload_that_stalls_is_a_408_and_leaves_nothing(
    address: tuple[str, int], fuzzed: FuzzedApp
) -> None:
    body, _ = upload()
    for size in (0, 10, len(body) // 2, len(body) - 1):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(head(len(body)) + body[:size])
            started = time.monotonic()
            assert b" 408 " in read(client)
            assert time.monotonic() - started < 5
        wait_until(lambda: is_clean(fuzzed))
    assert not fuzzed.house.store.names()


def test_an_upload_whose_client_goes_leaves_nothing(
    address: tuple[str, int], fuzzed: FuzzedApp
) -> None:
    body, _ = upload()
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(head(len(body)) + body[: len(body) // 2])
        wait_until(lambda: not is_clean(fuzzed))
    wait_until(lambda: is_clean(fuzzed))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        metrics = read(client).decode()
    assert 'endpoint="/v1/adapters",status="499"' in metrics
    assert 'status="500"' not in metrics


def test_a_parts_headers_are_bounded(address: tuple[str, int], fuzzed: FuzzedApp) -> None:
    for start in (b"--x\r\nX: ", b"--x\r\n", b"--x\r\n" + b"X-A: b\r\n" * 50 + b"Y: "):
        body = start + b"a" * 150_000
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(head(len(body)) + body)
            answer = client.recv(1 << 16)
        assert b" 400 " in answer, answer[:200]
        wait_until(lambda: is_clean(fuzzed))
