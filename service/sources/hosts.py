"""Which hosts an operator allows, and which addresses a connection may go to."""

import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import anyio
import httpx

from service.errors import SourceFailed, SourceRefused
from service.source_settings import Network

HTTPS_PORT = 443

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host."""

_NAT64 = IPv6Network("64:ff9b::/96")
_INNER = tuple(map(IPv6Network, ("::/96", "64:ff9b:1::/48", "fec0::/10")))
"""Ways to a network's own addresses, which `ipaddress` takes for public."""


def is_listed(url: httpx.URL, hosts: Sequence[str]) -> bool:
    """`hosts` as in the settings; without a port, the usual one alone."""
    return any(_matches(url, one) for one in hosts)


def origin_of(url: httpx.URL) -> tuple[str, int]:
    return url.host, url.port or HTTPS_PORT


def _matches(url: httpx.URL, listed: str) -> bool:
    is_any = listed.startswith("*.")
    wanted = httpx.URL(f"https://{listed.removeprefix('*.')}")
    if (url.port or HTTPS_PORT) != (wanted.port or HTTPS_PORT):
        return False
    return url.host.endswith(f".{wanted.host}") if is_any else url.host == wanted.host


async def resolve(host: str, port: int) -> Sequence[str]:
    """Raises OSError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to an address that was looked at, and to no other: whoever answers for a name may
    answer differently when it is asked again. The certificate must be the name's all the same."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        networks: Sequence[Network],
        resolve: Resolve = resolve,
    ) -> None:
        """`networks` are allowed although they are not public. `inner` keeps no connection: it
        would take two names at one address for the same server."""
        self._inner = inner
        self._networks = networks
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception = httpx.ConnectError("no address")
        for address in await self._addresses(request.url):
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _addresses(self, url: httpx.URL) -> list[str]:
        try:
            found = await self._resolve(*origin_of(url))
        except OSError:
            raise SourceFailed(f"The host {url.host!r} cannot be found.") from None
        allowed = [one for one in found if is_allowed(one, self._networks)]
        if not allowed:
            raise SourceRefused(
                f"The host {url.host!r} has no public address; an operator may allow its network:"
                " --source-networks."
            )
        return allowed


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """A scope (`fe80::1%eth0`) is only on addresses that are not public."""
    parsed = _innermost(ip_address(address.partition("%")[0]))
    if any(parsed.version == one.version and parsed in one for one in networks):
        return True
    is_inner = any(parsed.version == one.version and parsed in one for one in _INNER)
    return parsed.is_global and not parsed.is_multicast and not is_inner


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that others are only a way to."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    extensions = {**request.extensions, "sni_hostname": request.url.host}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )
