"""Streams over HTTP/1.1 that cost the client little: it shares the processor with the server that
it measures, and httpx takes as long for a line as a small base for a row."""

import asyncio
import json
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httptools

OnData = Callable[[bytes, float], None]
"""(part of the body, when it came)."""


class Connections:
    """Kept and used again, as clients in production do."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._free: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        while self._free:
            self._free.pop().close()

    async def post(self, path: str, body: object, key: str, on_data: OnData) -> None:
        """`on_data` is called with every part of the answer's body. Fails unless it is a 200."""
        connection = await self._connect()
        try:
            await connection.post(path, json.dumps(body).encode(), key, on_data)
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)

    async def _connect(self) -> "_Connection":
        while self._free:
            if (kept := self._free.pop()).is_open:
                return kept
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = False
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server has closed the connection"))

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    async def post(self, path: str, body: bytes, key: str, on_data: OnData) -> None:
        self._on_data = on_data
        self._refusal = b""
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}"] + [f"Authorization: Bearer {key}"] * bool(key)
        self._transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._done
        if (status := self._parser.get_status_code()) != 200:
            raise AssertionError(f"{status} {self._refusal.decode(errors='replace')}")

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() == 200:
            self._on_data(body, self._now)
        else:
            self._refusal += body

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
