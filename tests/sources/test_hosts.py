"""Which addresses a connection may go to, and that it goes to the one that was looked at."""

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_network

import httpx
import pytest

from service.errors import SourceFailed, SourceRefused
from service.sources.hosts import PinnedTransport, is_allowed, is_listed
from service.sources.web_reader import Link
from tests.sources.https_server import File, HttpsServer

PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"]
NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a00:1::", "2001:db8::1", "fec0::1", "::10.0.0.1", "64:ff9b:1::a00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address(address: str) -> None:
    assert is_allowed(address, ())


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_allowed(address, ())
    assert not is_allowed(address, (ip_network("10.9.0.0/16"), ip_network("fd99::/16")))


def test_a_network_that_the_operator_allows() -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert is_allowed("10.1.2.3", networks)
    assert is_allowed("::ffff:10.1.2.3", networks)
    assert is_allowed("::1", networks)
    assert not is_allowed("10.2.0.1", networks)


@pytest.mark.parametrize(
    ("url", "is_so"),
    [
        ("https://files.test/a", True),
        ("https://FILES.test:443/a", True),
        ("https://files.test:8443/a", False),
        ("https://files.test.evil.test/a", False),
        ("https://xfiles.test/a", False),
        ("https://a.cdn.test:8443/a", True),
        ("https://a.b.cdn.test:8443/a", True),
        ("https://a.cdn.test/a", False),
        ("https://cdn.test:8443/a", False),
        ("https://evilcdn.test:8443/a", False),
        ("https://files.test./a", False),
    ],
)
def test_hosts_are_compared_whole_and_with_their_port(url: str, is_so: bool) -> None:
    assert is_listed(httpx.URL(url), ("files.test", "*.cdn.test:8443")) is is_so


class Names:
    """Answers differently each time it is asked, as who wants to deceive would."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0)


def ask(names: Names, inner: httpx.AsyncBaseTransport) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = PinnedTransport(inner, (), names)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get("https://files.test/a")

    return asyncio.run(main())


def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    names = Names(["10.0.0.1", "93.184.216.34"], ["127.0.0.1"])
    assert ask(names, httpx.MockTransport(answer)).status_code == 200
    assert [one.url.host for one in sent] == ["93.184.216.34"]
    assert sent[0].headers["host"] == "files.test"
    assert sent[0].extensions["sni_hostname"] == "files.test"
    assert len(names.answers) == 1, "it is looked up once"


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "93.184.216.34":
            raise httpx.ConnectError("away")
        return httpx.Response(200, text=request.url.host)

    answered = ask(Names(["93.184.216.34", "93.184.216.35"]), httpx.MockTransport(answer))
    assert answered.text == "93.184.216.35"


def test_a_name_with_no_allowed_address_is_never_connected_to() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("connected")

    with pytest.raises(SourceRefused, match="--source-networks"):
        ask(Names(["127.0.0.1", "::1"]), httpx.MockTransport(answer))


def test_a_name_that_nobody_has() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    async def main() -> None:
        transport = PinnedTransport(httpx.MockTransport(lambda _: httpx.Response(200)), (), nowhere)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("https://files.test/a")

    with pytest.raises(SourceFailed, match="cannot be found"):
        asyncio.run(main())


def test_the_certificate_must_be_the_names(server: HttpsServer) -> None:
    """Though the connection is made by address."""
    server.paths["/a"] = File(b"x")

    async def read(host: str, trust: ssl.SSLContext | None = None) -> str:
        options = {} if trust is None else {"trust": trust}
        reader = server.reader(**options)
        link = Link(httpx.URL(server.url("/a", host)), (server.host(host),), "--flag")
        try:
            async with reader.open(link) as response:
                return (await response.aread()).decode()
        finally:
            await reader.aclose()

    assert asyncio.run(read("files.test")) == "x"
    with pytest.raises(Exception, match=r"broke \(ConnectError\)"):
        asyncio.run(read("other.test"))
    with pytest.raises(Exception, match=r"broke \(ConnectError\)"):
        asyncio.run(read("files.test", ssl.create_default_context()))
