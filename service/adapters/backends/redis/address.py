"""Where Redis is and who asks there, read from one URL that may hold a password."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from service.errors import ConfigurationError

_TLS = {"rediss": True, "redis": False}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Queries of a `rediss://` URL (paths): whom to trust, and the certificate to show."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    host: str
    port: int
    db: int
    has_tls: bool
    secrets: Mapping[str, Any] = field(repr=False)
    """Arguments of a client that are nobody's business: user, password, paths of keys."""

    def __str__(self) -> str:
        """For people: no credentials."""
        return f"{'rediss' if self.has_tls else 'redis'}://{self.host}:{self.port}/{self.db}"

    @property
    def arguments(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "db": self.db, **self.secrets}


def parse_address(url: str) -> RedisAddress:
    """`redis[s]://[user][:password@]host[:port][/db]`. Raises `ConfigurationError`, whose sentence
    never has a part of the URL in it."""
    try:
        parts = urlsplit(url)
        has_tls = _TLS[parts.scheme]
        port = parts.port or 6379
        db = int(parts.path.strip("/") or 0)
        queries = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except (ValueError, KeyError):
        raise _wrong("it is not redis[s]://[user][:password@]host[:port][/db]") from None
    if not parts.hostname or db < 0 or parts.fragment:
        raise _wrong("it is not redis[s]://[user][:password@]host[:port][/db]")
    if set(queries) - set(_TLS_FILES if has_tls else ()):
        raise _wrong(f"of queries it may have {', '.join(_TLS_FILES)}, and only with rediss")
    names = {"username": parts.username, "password": parts.password}
    secrets: dict[str, Any] = {name: unquote(value) for name, value in names.items() if value}
    return RedisAddress(unquote(parts.hostname), port, db, has_tls, secrets | queries)


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"--redis-url: {reason}")
