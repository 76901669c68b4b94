"""One connection with bounds on everything that its client decides: how much it sends, how slowly
it sends and reads, how many others there are.

uvicorn's own protocol does the rest. What is refused here never reaches the application, so it is
answered in the same shape by hand, and the connection is closed.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.auth import OPEN_PATHS
from service.api.exceptions import error_response
from service.errors import (
    HeadersTooLarge,
    InvalidRequest,
    Overloaded,
    RepertoireError,
    RequestTooSlow,
    UrlTooLong,
)
from service.settings import Settings

MAX_URL_BYTES = 8 << 10
MAX_HEADERS = 100
MAX_PIPELINED = 8
MIN_BODY_BYTES_PER_SECOND = 1 << 10
"""Whoever sends a body more slowly on the whole holds a place for nothing."""
LINGER_SECONDS = 5.0
"""How long the rest of a body is still read after its answer, so that the answer arrives."""
RESERVED_CONNECTIONS = 64
"""Beyond the limit, so that probes are answered when it is reached."""

_RETRY_AFTER = 5
_TICKS_PER_TIMEOUT = 8


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> "ConnectionLimits":
        return cls(
            settings.max_connections,
            settings.max_header_bytes,
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.write_timeout_s,
        )

    @property
    def tick_s(self) -> float:
        """How often a connection is looked at: a timeout is late by at most this."""
        shortest = min(self.header_timeout_s, self.body_timeout_s, self.write_timeout_s)
        return min(shortest / _TICKS_PER_TIMEOUT, 1.0)


class BoundedProtocol(HttpToolsProtocol):
    def __init__(
        self, *args: Any, limits: ConnectionLimits, refused: Callable[[int], None], **kwargs: Any
    ) -> None:
        """`refused` is told the status of every answer that is given here."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._refused = refused
        self._ticking: asyncio.TimerHandle | None = None
        self._problem: RepertoireError | None = None
        self._is_over_limit = False
        self._is_head = True
        """Within a request line and headers, or before them."""
        self._head_since: float | None = None
        """None while nothing of a request is awaited."""
        self._num_head_bytes = 0
        self._body_since = self._last_body = 0.0
        self._num_body_bytes = 0
        self._is_body_awaited = False
        self._answered_at: float | None = None
        """When an answer was complete before its request was."""
        self._paused_at: float | None = None
        """Since when the client has not read what is ready for it."""
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = time.monotonic()
        excess = len(self.connections) - self._limits.max_connections
        self._is_over_limit = excess > 0
        self._ticking = self.loop.call_later(self._limits.tick_s, self._tick)
        if excess > RESERVED_CONNECTIONS:
            self._refuse(_too_many())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_head:
            if self._head_since is None:
                self._head_since = time.monotonic()
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_head and self._num_head_bytes > self._limits.max_header_bytes + MAX_URL_BYTES:
            self._refuse(self._too_large())

    def on_headers_complete(self) -> None:
        self._is_head, self._head_since, self._num_head_bytes = False, None, 0
        self._body_since = self._last_body = time.monotonic()
        self._num_body_bytes = 0
        self._is_body_awaited = True
        self._problem = self._find_problem()
        if self._problem is not None:
            # The parser stops, and what it calls then is `send_400_response`.
            raise ValueError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._last_body = time.monotonic()
        self._num_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_head, self._is_body_awaited, self._answered_at = True, False, None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._is_body_awaited and not self.pipeline:
            self._answered_at = time.monotonic()
        if self._head_since is not None:
            # What came of the next request had to wait for this one.
            self._head_since = time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        problem = self._problem or InvalidRequest("This is not a valid HTTP request.")
        if self.cycle is not None and self.cycle.response_started:
            # Of the request before: nothing may be written into its answer.
            self.flow.pause_reading()
            if self.cycle.response_complete:
                self._refuse(problem)
            self.cycle.keep_alive = False
            return
        self._refuse(problem)

    def pause_writing(self) -> None:
        self._paused_at = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._paused_at = None
        super().resume_writing()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _find_problem(self) -> RepertoireError | None:
        if len(self.url) > MAX_URL_BYTES:
            return UrlTooLong(f"The address has more than {MAX_URL_BYTES} bytes.")
        num_bytes = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if num_bytes > self._limits.max_header_bytes or len(self.headers) > MAX_HEADERS:
            return self._too_large()
        if len(self.pipeline) >= MAX_PIPELINED:
            return InvalidRequest(f"More than {MAX_PIPELINED} requests wait on this connection.")
        is_probe = self.url.partition(b"?")[0].decode("latin-1") in OPEN_PATHS
        if self._is_over_limit and not is_probe:
            return _too_many()
        return None

    def _too_large(self) -> RepertoireError:
        if len(self.url) > MAX_URL_BYTES:
            return UrlTooLong(f"The address has more than {MAX_URL_BYTES} bytes.")
        return HeadersTooLarge(
            f"The headers have more than {self._limits.max_header_bytes} bytes, or are more than"
            f" {MAX_HEADERS}."
        )

    def _tick(self) -> None:
        now = time.monotonic()
        if self._has_stopped_reading(now):
            self.transport.abort()
            return
        if not self.transport.is_closing():
            self._check_sender(now)
        self._ticking = self.loop.call_later(self._limits.tick_s, self._tick)

    def _has_stopped_reading(self, now: float) -> bool:
        if self.transport.is_closing():
            if self._closing_since is None:
                self._closing_since = now
            return now - self._closing_since > self._limits.write_timeout_s
        return self._paused_at is not None and now - self._paused_at > self._limits.write_timeout_s

    def _check_sender(self, now: float) -> None:
        if self._answered_at is not None and now - self._answered_at > LINGER_SECONDS:
            self.transport.close()
        elif self._is_head and self._head_since is not None:
            is_late = now - self._head_since > self._limits.header_timeout_s
            if is_late and not self._is_answering:
                self._give_up("The headers arrived too slowly.")
        elif self._is_body_awaited and self._answered_at is None:
            if self.flow.read_paused:
                # It is this side that does not keep up.
                self._body_since += self._limits.tick_s
                self._last_body = now
            elif self._is_body_late(now):
                self._give_up("The body arrived too slowly.")

    def _is_body_late(self, now: float) -> bool:
        limit = self._limits.body_timeout_s
        allowed = limit + self._num_body_bytes / MIN_BODY_BYTES_PER_SECOND
        return now - self._last_body > limit or now - self._body_since > allowed

    def _give_up(self, message: str) -> None:
        if self._is_answering and self.cycle.response_started:
            self.transport.abort()
        elif self._is_head and self._num_head_bytes == 0:
            # Nothing was asked, so there is nothing to answer.
            self.transport.close()
        else:
            self._refuse(RequestTooSlow(message))

    def _refuse(self, problem: RepertoireError) -> None:
        if self.transport.is_closing():
            return
        response = error_response(problem)
        response.headers["connection"] = "close"
        response.headers["x-request-id"] = secrets.token_hex(16)
        lines = [b"%s: %s\r\n" % header for header in response.raw_headers]
        first = STATUS_LINE[response.status_code]
        self.transport.write(b"".join([first, *lines, b"\r\n", bytes(response.body)]))
        self.transport.close()
        self._refused(response.status_code)


def _too_many() -> RepertoireError:
    return Overloaded("Too many connections are open; try again later.", _RETRY_AFTER)
