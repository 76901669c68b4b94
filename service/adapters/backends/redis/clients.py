"""Clients of redis-py that try once, wait briefly and speak to one address."""

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.adapters.backends.redis.address import RedisAddress

_MAX_CONNECTIONS = 16
"""Of one client; more callers wait for one of them."""


def client(address: RedisAddress, timeout_s: float, connect_timeout_s: float) -> redis.Redis:
    pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=redis.SSLConnection if address.has_tls else redis.Connection,
        max_connections=_MAX_CONNECTIONS,
        timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **_arguments(address, timeout_s, connect_timeout_s),
    )
    return redis.Redis.from_pool(pool)


def async_client(address: RedisAddress, timeout_s: float) -> redis.asyncio.Redis:
    """For the event loop that first uses it."""
    is_tls = address.has_tls
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=redis.asyncio.SSLConnection if is_tls else redis.asyncio.Connection,
        max_connections=_MAX_CONNECTIONS,
        timeout=timeout_s,
        retry=AsyncRetry(NoBackoff(), 0),
        **_arguments(address, timeout_s, timeout_s),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _arguments(address: RedisAddress, timeout_s: float, connect_timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "decode_responses": True,
        "protocol": 2,
        **address.arguments,
    }
