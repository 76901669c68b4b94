"""Reads over HTTPS from hosts that are allowed; follows redirects itself, so that none leads
elsewhere and no credential goes beyond the host that it is for."""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from service.errors import SourceDenied, SourceFailed, SourceNotFound, SourceRefused
from service.source_settings import Network
from service.sources.hosts import PinnedTransport, Resolve, is_listed, origin_of, resolve
from service.sources.patience import Interrupted
from service.sources.source import IDLE_S

MAX_REDIRECTS = 5
_CONNECT_S = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Link:
    """A URL, and how far what it leads to may be followed."""

    url: httpx.URL
    hosts: Sequence[str]
    """Allowed, as in the settings."""
    flag: str
    """That allows more of them."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers for the URL's own host and port alone."""


class WebReader:
    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolve: Resolve = resolve,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`trust` is by default what SSL_CERT_FILE says, or the usual authorities."""
        inner = httpx.AsyncHTTPTransport(
            verify=trust or httpx.create_ssl_context(),
            # No proxy: it would choose the address.
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._http = httpx.AsyncClient(
            transport=PinnedTransport(inner, networks, resolve),
            timeout=httpx.Timeout(IDLE_S, connect=_CONNECT_S),
            headers={"User-Agent": "repertoire", "Accept-Encoding": "identity"},
            # None is taken: what one fetch was given is not shown by another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def open(
        self, link: Link, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The first answer that is no redirect; only 200, 206 and 416 come through.

        Raises `SourceRefused`, `SourceFailed` or, also while the body is read, `Interrupted`.
        """
        url = link.url
        try:
            for _ in range(MAX_REDIRECTS + 1):
                _check(url, link)
                secrets = link.secrets if origin_of(url) == origin_of(link.url) else {}
                sent = {**(headers or {}), **secrets}
                request = self._http.build_request("GET", url, headers=sent)
                response = await self._http.send(request, stream=True)
                try:
                    if response.status_code not in _REDIRECTS:
                        _check_status(response, url)
                        yield response
                        return
                    url = _next(url, response)
                finally:
                    await response.aclose()
        except httpx.TimeoutException:
            raise Interrupted(f"{url.host} did not answer in time.") from None
        except httpx.TransportError as error:
            kind = type(error).__name__
            raise Interrupted(f"The connection to {url.host} broke ({kind}).") from None
        except httpx.HTTPError:
            raise SourceFailed(f"The answer of {url.host} is not one of HTTP.") from None
        raise SourceFailed(f"More than {MAX_REDIRECTS} redirects.")

    async def json(self, link: Link, max_bytes: int) -> Any:
        """Raises `SourceRefused`, `SourceFailed` or `Interrupted`."""
        body = bytearray()
        async with self.open(link) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise SourceFailed(f"The answer of {link.url.host} is too long.")
            try:
                return httpx.Response(200, content=bytes(body)).json()
            except ValueError:
                raise SourceFailed(f"The answer of {link.url.host} is not JSON.") from None


def _check(url: httpx.URL, link: Link) -> None:
    if url.scheme != "https" or url.userinfo:
        raise SourceRefused("The source leads to a URL that is not https://host/path.")
    if not is_listed(url, link.hosts):
        port = "" if url.port is None else f":{url.port}"
        raise SourceRefused(
            f"The host {url.host}{port} is not allowed as a source here; an operator may:"
            f" {link.flag}."
        )


def _check_status(response: httpx.Response, url: httpx.URL) -> None:
    status = response.status_code
    if status in (404, 410):
        raise SourceNotFound(f"{url.host} has no such file ({status}).")
    if status in (401, 403):
        raise SourceDenied(f"{url.host} does not give this to this server ({status}).")
    if status in (408, 429) or status >= 500:
        raise Interrupted(f"{url.host} answered {status}.", _retry_after(response))
    if status not in (200, 206, 416):
        raise SourceFailed(f"{url.host} answered {status}.")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceFailed(f"{url.host} sends the file in another encoding than it was asked for.")


def _next(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        return url.join(response.headers["location"])
    except (KeyError, httpx.InvalidURL):
        raise SourceFailed(f"{url.host} redirects to nowhere.") from None


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
