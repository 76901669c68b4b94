"""`Client` and `AsyncClient`: the same calls by the same names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx

from service.client.calls import adapters, imports, keys, operations, reports, tenants
from service.client.errors import InvalidCall
from service.client.methods import Lists, Sends, Watches
from service.client.retry import RetryPolicy
from service.client.transport import AsyncTransport, SyncTransport

URL_VARIABLE = "REPERTOIRE_CLIENT_URL"
KEY_VARIABLE = "REPERTOIRE_CLIENT_KEY"
"""Not `REPERTOIRE_API_KEY`: that is what a server accepts, perhaps several keys."""
DEFAULT_URL = "http://127.0.0.1:8000"

_CONNECT_S = 10.0

T = TypeVar("T", SyncTransport, AsyncTransport)


@dataclass(frozen=True)
class Adapters(Generic[T]):
    transport: T

    push = Sends(adapters.push)
    list = Lists(adapters.list_all)
    get = Sends(adapters.get)
    move = Sends(adapters.move)
    share = Sends(adapters.share)
    pin = Sends(adapters.pin)
    expire = Sends(adapters.expire)
    rollback = Sends(adapters.rollback)
    delete = Sends(adapters.delete)
    restore = Sends(adapters.restore)
    gc = Sends(adapters.gc)
    verify = Sends(adapters.verify)
    warm = Sends(adapters.warm)


@dataclass(frozen=True)
class Imports(Generic[T]):
    transport: T

    begin = Sends(imports.begin)
    get = Sends(imports.get)
    list = Lists(imports.list_all)
    stop = Sends(imports.stop)
    wait = Watches(imports.wait)


@dataclass(frozen=True)
class Keys(Generic[T]):
    transport: T

    create = Sends(keys.create)
    list = Lists(keys.list_all)
    revoke = Sends(keys.revoke)


@dataclass(frozen=True)
class Tenants(Generic[T]):
    transport: T

    create = Sends(tenants.create)
    list = Lists(tenants.list_all)
    get = Sends(tenants.get)
    set_limits = Sends(tenants.set_limits)
    delete = Sends(tenants.delete)


class _Calls(Generic[T]):
    """What both clients can do, over the transport of each."""

    version = Sends(operations.version)
    ready = Sends(operations.ready)
    models = Lists(operations.models)
    audit = Lists(reports.audit)
    usage = Lists(reports.usage)

    def __init__(self, transport: T) -> None:
        self.transport: T = transport
        self.adapters: Adapters[T] = Adapters(transport)
        self.imports: Imports[T] = Imports(transport)
        self.keys: Keys[T] = Keys(transport)
        self.tenants: Tenants[T] = Tenants(transport)


class Client(_Calls[SyncTransport]):
    """Blocks until the answer is there."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` and `key` by default from REPERTOIRE_CLIENT_URL and REPERTOIRE_CLIENT_KEY."""
        target = _Target.of(url, key, timeout_s)
        http = httpx.Client(transport=transport, **target.options)
        super().__init__(SyncTransport(http, retry or RetryPolicy()))

    def close(self) -> None:
        self.transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Calls[AsyncTransport]):
    """Every method is awaited, every listing iterated with `async for`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` and `key` by default from REPERTOIRE_CLIENT_URL and REPERTOIRE_CLIENT_KEY."""
        target = _Target.of(url, key, timeout_s)
        http = httpx.AsyncClient(transport=transport, **target.options)
        super().__init__(AsyncTransport(http, retry or RetryPolicy()))

    async def aclose(self) -> None:
        await self.transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True)
class _Target:
    """Whom a client calls, as who, and how long it waits."""

    url: str
    timeout_s: float
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str | None, key: str | None, timeout_s: float) -> Self:
        url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        key = key or os.environ.get(KEY_VARIABLE)
        if not _is_address(url):
            raise InvalidCall(f"{url!r} is no address: it begins with http:// or https://.")
        if key and not (key.isascii() and key.isprintable()):
            raise InvalidCall("The key holds characters that no key has.")
        headers = {"User-Agent": "repertoire-client"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # People paste the address that they give to OpenAI's client.
        return cls(url.rstrip("/").removesuffix("/v1"), timeout_s, headers)

    @property
    def options(self) -> Any:
        return {
            "base_url": self.url,
            "headers": self.headers,
            "timeout": httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, _CONNECT_S)),
        }


def _is_address(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)
