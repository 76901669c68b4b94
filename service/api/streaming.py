"""Server-sent events over ASGI: an answer that is closed whatever happens to the connection."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 15.0
"""Load balancers cut connections that are silent for a minute."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClosingStreamingResponse(StreamingResponse):
    """Starlette never closes the iterator: after a failed `send` it lives until it is collected.

    `close` is called too, because closing a generator that was never started runs none of it.
    """

    def __init__(
        self,
        frames: AsyncGenerator[str, None],
        close: Callable[[], Awaitable[None]],
        headers: Mapping[str, str],
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        super().__init__(frames, headers={**_HEADERS, **headers}, media_type="text/event-stream")
        self._frames = frames
        self._close = close
        self._keep_alive_seconds = keep_alive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._frames.aclose()
            finally:
                await self._close()

    async def stream_response(self, send: Send) -> None:
        heart = _Heart(send)
        beating = asyncio.create_task(heart.beat(self._keep_alive_seconds))
        try:
            await super().stream_response(heart.send)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating


class _Heart:
    """Sends a comment whenever nothing was sent for a while."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_quiet = False
        self._is_open = False

    async def send(self, message: Message) -> None:
        self._is_quiet = False
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_open = False
        await self._send(message)
        if message["type"] == "http.response.start":
            self._is_open = True

    async def beat(self, seconds: float) -> None:
        while True:
            self._is_quiet = True
            await asyncio.sleep(seconds)
            if self._is_quiet and self._is_open:
                with suppress(OSError):
                    await self._send(
                        {"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True}
                    )
