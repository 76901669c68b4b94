"""Who a request acts for: the one decision at the door. Pure: time is passed in."""

import hmac
from collections.abc import Callable, Sequence

from service.access.keys import KeyRing, digest_of
from service.errors import Unauthorized
from service.tenancy import ANYONE, OF_SETTINGS, Principal

_MESSAGE = "A valid API key is needed: Authorization: Bearer KEY."
"""The same for every reason: it must not tell an expired key from one that never was."""


class Gate:
    def __init__(
        self, operator_keys: Sequence[str], ring: KeyRing, has_tenant: Callable[[str], bool]
    ) -> None:
        """Without `operator_keys` the server is open: whoever sends no known key is an operator.
        Keys of a tenant that is gone open nothing, also those that a replica made while it went."""
        self._operator_digests = [digest_of(key.encode()) for key in operator_keys]
        self._ring = ring
        self._has_tenant = has_tenant

    def admit(self, secret: bytes, now: float) -> Principal:
        """`secret` is empty when none was sent. Raises `Unauthorized`."""
        is_operator = self._is_of_settings(secret)
        key = self._ring.match(secret)
        if key is not None and key.is_valid(now) and self._has_tenant(key.tenant):
            return key.principal
        # A key that has ended opens nothing, not even a server that is open to everybody.
        if is_operator:
            return OF_SETTINGS
        if key is None and not self._operator_digests:
            return ANYONE
        raise Unauthorized(_MESSAGE)

    def _is_of_settings(self, secret: bytes) -> bool:
        """Compares hashes with every key, so that time tells neither the key nor its length."""
        digest = digest_of(secret)
        matches = [hmac.compare_digest(digest, known) for known in self._operator_digests]
        return any(matches)
