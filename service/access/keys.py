"""Keys of the API: what is kept of each, and whose a sent one is. Pure: time is passed in.

A key reads `rk_<id>_<random>`. The id is public and finds the record, so that a look-up costs the
same however many keys there are; of the whole only a hash is kept.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from service.tenancy import Principal, Role

_ID_BYTES = 8
_RANDOM_BYTES = 36
"""32 and more stay unknown to whoever has seen the ending in a list."""
_ENDING_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    tenant: str
    role: Role
    digest: str
    """sha256 (hex) of the secret."""
    ending: str
    """The secret's last characters, by which people tell keys apart."""
    created_at: int
    """Unix seconds, like the other times."""
    label: str = ""
    expires_at: int | None = None
    min_priority: int = 0
    """The most urgent priority that it allows: lower is earlier."""
    revoked_at: int | None = None

    def is_valid(self, now: float) -> bool:
        is_expired = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and not is_expired

    @property
    def principal(self) -> Principal:
        return Principal(self.tenant, self.role, self.id, self.min_priority)


@dataclass(frozen=True, slots=True)
class Secret:
    """What its owner is shown once."""

    id: str
    text: str

    @classmethod
    def new(cls) -> "Secret":
        key_id = secrets.token_hex(_ID_BYTES)
        return cls(key_id, f"rk_{key_id}_{secrets.token_urlsafe(_RANDOM_BYTES)}")

    @property
    def digest(self) -> str:
        return digest_of(self.text.encode())

    @property
    def ending(self) -> str:
        return self.text[-_ENDING_LENGTH:]


def is_key_id(text: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{2 * _ID_BYTES}}}", text) is not None


def digest_of(secret: bytes) -> str:
    return sha256(secret).hexdigest()


_NOBODYS = digest_of(secrets.token_bytes(_RANDOM_BYTES))
"""Compared with where there is no such key, so that time does not tell which ids exist."""


class KeyRing:
    """The keys that are known now, the revoked ones too."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def put(self, key: Key) -> None:
        """Add it, or replace what was known of it."""
        self._keys[key.id] = key

    def all(self) -> list[Key]:
        return list(self._keys.values())

    def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    def of_tenant(self, tenant: str) -> list[Key]:
        """Oldest first, without the revoked ones."""
        keys = (key for key in self._keys.values() if key.tenant == tenant)
        return sorted(
            (key for key in keys if key.revoked_at is None),
            key=lambda key: (key.created_at, key.id),
        )

    def match(self, secret: bytes) -> Key | None:
        """The key that was sent, whether it is still valid or not."""
        key = self._keys.get(_public_id(secret))
        expected = _NOBODYS if key is None else key.digest
        return key if hmac.compare_digest(digest_of(secret), expected) else None


def _public_id(secret: bytes) -> str:
    """Of anything that was sent; empty when it is no key of this form."""
    prefix, _, rest = secret.partition(b"_")
    return rest.partition(b"_")[0].decode("latin-1") if prefix == b"rk" else ""
