"""The key check, before a byte of the body is read."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.exceptions import error_response
from service.errors import Unauthorized

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Probes cannot hold a key."""


class AuthMiddleware:
    """Guards every path but the probes, also those that do not exist. No keys: lets all pass."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._digests and scope["path"] not in OPEN_PATHS:
            sent = Headers(scope=scope).get("authorization", "")
            if not self._accepts(sent):
                message = "A valid API key is needed: Authorization: Bearer KEY."
                await error_response(Unauthorized(message))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _accepts(self, authorization: str) -> bool:
        """Compares hashes with every key, so that time tells neither the key nor its length."""
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode("latin-1")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)
