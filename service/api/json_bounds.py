"""Looks at a JSON body before anything is made of it: parsers and validators build an object, and
where it is wrong an error, for every value, all of it on the event loop."""

import re
from itertools import accumulate

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.exceptions import error_response
from service.errors import InvalidRequest

MAX_VALUES = 1 << 20
MAX_DEPTH = 64
_SMALL_BYTES = 256
"""No shorter body can break a bound that its own length does not keep it from harming."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}


class JsonBoundsMiddleware:
    """Reads the body, which is bounded already, and hands it on in one piece."""

    def __init__(self, app: ASGIApp, uploads_path: str) -> None:
        self._app = app
        self._uploads_path = uploads_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope) or scope["path"] == self._uploads_path:
            await self._app(scope, receive, send)
            return
        message = await _whole(receive)
        if message["type"] == "http.disconnect":
            return
        if problem := find_problem(message["body"]):
            await error_response(InvalidRequest(problem))(scope, receive, send)
            return
        waiting = [message]

        async def receive_again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, receive_again, send)


def find_problem(body: bytes) -> str | None:
    """Too much or too deep; whether it is JSON at all is for the parser to say."""
    if len(body) < _SMALL_BYTES:
        return None
    structure = _STRING.sub(b"", body).translate(None, _NOT_STRUCTURE)
    if len(structure) > MAX_VALUES:
        return f"The JSON body has more than {MAX_VALUES} values."
    if max(accumulate(map(_STEPS.__getitem__, structure)), default=0) > MAX_DEPTH:
        return f"The JSON body is nested more than {MAX_DEPTH} levels deep."
    return None


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _whole(receive: Receive) -> Message:
    """The body as one message, or the end of the connection."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(body), "more_body": False}
