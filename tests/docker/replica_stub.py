"""A replica that has no model: it says who it is, and holds requests open where it is told to."""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from tests.api.conftest import wait_until
from tests.server import free_port


@dataclass
class ReplicaStub:
    """Its port stays the same when it is stopped and started again."""

    name: str
    port: int = field(default_factory=free_port)
    is_ready: bool = True
    is_holding: bool = False
    """Bodies with the text `held` get their headers and one frame; the rest when this ends."""
    is_silent: bool = False
    """They do not even get their headers."""
    num_held: int = 0
    num_left: int = 0
    """Of the held requests, those whose client went away."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of every API request, oldest first."""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        config = uvicorn.Config(
            self._serve,
            host="127.0.0.1",
            port=self.port,
            log_config=None,
            lifespan="off",
            interface="asgi3",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self.is_holding = False
        self._server.should_exit = True
        self._thread.join(timeout=30)

    def reset(self) -> None:
        self.is_ready, self.is_holding, self.is_silent = True, False, False
        self.num_held = self.num_left = 0
        self.headers.clear()
        self.bodies.clear()

    def break_off(self) -> None:
        """As a process that dies: its connections end wherever they are."""
        for connection in list(self._server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ready":
            await _answer(send, {"name": self.name}, 200 if self.is_ready else 503)
            return
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        body = await _read(receive)
        self.bodies.append(body)
        if b'"held"' in body and self.is_holding:
            await self._hold(receive, send)
            return
        answer = {
            "id": self.name,
            "object": "text_completion",
            "created": 0,
            "model": self.name,
            "choices": [],
            "num_bytes": len(body),
        }
        await _answer(send, answer)

    async def _hold(self, receive: Receive, send: Send) -> None:
        self.num_held += 1
        gone = asyncio.create_task(_until_gone(receive))
        if not self.is_silent:
            await send(_start(200, "text/event-stream"))
            await send(_frame(f"data: {self.name}\n", more=True))
        while self.is_holding and not gone.done():  # noqa: ASYNC110 - a test's thread ends it
            await asyncio.sleep(0.01)
        self.num_left += gone.done()
        gone.cancel()
        if self.is_silent:
            await send(_start(200, "text/event-stream"))
        await send(_frame("data: end\n"))


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, value: object, status: int = 200) -> None:
    await send(_start(status, "application/json"))
    await send(_frame(json.dumps(value)))


def _start(status: int, content_type: str) -> Message:
    headers = [(b"content-type", content_type.encode())]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _frame(text: str, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}
