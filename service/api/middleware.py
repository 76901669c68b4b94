"""What happens around every request, as plain ASGI: the usual base class copies every chunk."""

import asyncio
import random
import re
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.exceptions import error_response
from service.errors import Draining, UploadTooLarge
from service.handlers.lifecycle import Lifecycle
from service.phases import collect_phases
from service.telemetry import FinishedRequest, RequestRecord, Telemetry

API_PREFIX = "/v1"
"""What is counted as work and turned away while draining; the rest is for operators."""

CLIENT_GONE = 499
"""nginx's status for a request that nobody waits for any more; only ever logged."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestMiddleware:
    """Outermost: request id in and out, one log line, metrics, and a body for every failure."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(Headers(scope=scope).get("x-request-id", "")))
        scope.setdefault("state", {})["record"] = record
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            await send(message)

        collect_phases(record.phases)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=record.request_id)
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            record.error = ClientDisconnect.__name__
        except Exception as error:
            record.error = type(error).__name__
            self._telemetry.log.exception("request failed")
            if not status:
                await error_response(error)(scope, receive, send_with_id)
        finally:
            self._account(scope, status or CLIENT_GONE, record)

    def _account(self, scope: Scope, status: int, record: RequestRecord) -> None:
        ended = time.monotonic()
        seconds = ended - record.started
        endpoint = _endpoint(scope)
        self._telemetry.metrics.requests.labels(endpoint, str(status)).inc()
        if record.num_prompt_tokens is not None:
            self._telemetry.metrics.request_latency.observe(seconds)
        if status == 429 and record.tenant is not None:
            self._telemetry.metrics.limited.count(record.tenant)
        for phase in record.phases:
            self._telemetry.metrics.upload_phases.labels(phase.name).observe(phase.seconds)
        # Probes and scrapes come every few seconds for ever.
        is_work = scope["path"].startswith(f"{API_PREFIX}/") or status >= 400
        write = self._telemetry.log.info if is_work else self._telemetry.log.debug
        write(
            "request",
            method=scope["method"],
            endpoint=endpoint,
            status=status,
            seconds=round(seconds, 4),
            **record.fields(),
            **self._trace(scope, endpoint, status, ended, record),
        )

    def _trace(
        self, scope: Scope, endpoint: str, status: int, ended: float, record: RequestRecord
    ) -> dict[str, str]:
        """What the log line says of it."""
        tracer = self._telemetry.tracer
        if tracer is None or not scope["path"].startswith(f"{API_PREFIX}/"):
            return {}
        headers = Headers(scope=scope)
        trace_id = tracer.record(
            FinishedRequest(scope["method"], endpoint, status, ended, headers, record)
        )
        return {} if trace_id is None else {"trace_id": trace_id}


class DrainMiddleware:
    """Counts the API's requests until their last byte; at shutdown asks clients to connect anew,
    which takes them elsewhere, and turns new requests away."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{API_PREFIX}/"):
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_last(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                if self._lifecycle.is_ending:
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        try:
            with self._lifecycle.admitted():
                await self._app(scope, receive, send_last)
        except Draining as error:
            await error_response(error)(scope, receive, send_last)
        except asyncio.CancelledError:
            # The drain is over, and this is no stream that the engine could have ended.
            if not is_answered:
                late = Draining("The server was shut down before this was done.")
                await error_response(late)(scope, receive, send_last)
            raise


SMALL_BODY_BYTES = 1 << 18
"""Of every request that brings neither a prompt nor an adapter."""

_PROMPT_PATHS = frozenset({f"{API_PREFIX}/completions", f"{API_PREFIX}/chat/completions"})


class BodyLimitMiddleware:
    """Bounds what is read into memory. Uploads bound themselves, since they go to disk.

    FastAPI's own limit answers in plain text, which no client of ours can read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, uploads_path: str) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads_path = uploads_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == self._uploads_path:
            await self._app(scope, receive, send)
            return
        max_bytes = self._max_bytes
        if scope["path"] not in _PROMPT_PATHS:
            max_bytes = min(max_bytes, SMALL_BODY_BYTES)
        message = f"The body is larger than {max_bytes} bytes."
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced) > max_bytes:
            await error_response(UploadTooLarge(message))(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, max_bytes, message), send)


def _bounded(receive: Receive, max_bytes: int, problem: str) -> Receive:
    num_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise UploadTooLarge(problem)
        return message

    return receive_bounded


def _request_id(sent: str) -> str:
    """The client's own, unless it could forge a log line or a header."""
    return sent if _REQUEST_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"


def _endpoint(scope: Scope) -> str:
    """The route's template: a raw path would give a metric label to every client's typing error."""
    route: Any = scope.get("route")
    template = getattr(route, "path", None)
    if template is None:
        return "other"
    # The scope holds the route as its router knows it, without the prefix.
    return f"{API_PREFIX}{template}" if scope["path"].startswith(f"{API_PREFIX}/") else template
