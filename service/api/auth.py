"""The key check, before a byte of the body is read."""

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.gate import Gate
from service.api.exceptions import error_response
from service.errors import Unauthorized
from service.handlers.audit import Actor, act_for

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Probes cannot hold a key."""


class AuthMiddleware:
    """Guards every path but the probes, also those that do not exist.

    Whom the request acts for is found under `principal` in the scope's state.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                principal = self._gate.admit(_sent_key(Headers(scope=scope)), time.time())
            except Unauthorized as error:
                await error_response(error)(scope, receive, send)
                return
            state = scope.setdefault("state", {})
            state["principal"] = principal
            state["record"].tenant = principal.tenant
            state["record"].key_id = principal.key_id or None
            act_for(Actor.of(principal, state["record"].request_id))
        await self._app(scope, receive, send)


def _sent_key(headers: Headers) -> bytes:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
