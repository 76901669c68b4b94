"""https:// sources against a server that redirects, breaks off, changes its mind, or sends junk."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.errors import (
    RepertoireError,
    SourceDenied,
    SourceFailed,
    SourceNotFound,
    SourceRefused,
    UploadTooLarge,
)
from service.sources.address import parse_address
from service.sources.hosts import origin_of
from service.sources.web import WebSource
from tests.sources.conftest import MemoryTarget
from tests.sources.https_server import QUICK, File, HttpsServer, Redirect

BODY = bytes(range(256)) * 1000


@dataclass
class Fetch:
    server: HttpsServer
    target: MemoryTarget
    hosts: tuple[str, ...] = ()
    token: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, path: str) -> str:
        return asyncio.run(self._run(path))

    async def _run(self, path: str) -> str:
        address: Any = parse_address(self.server.url(path))
        reader = self.server.reader(**self.options)
        hosts = (self.server.host(), *self.hosts)
        tokens = {} if self.token is None else {origin_of(address.url): self.token}
        try:
            source = WebSource(address, reader, hosts, tokens, QUICK)
            return await source.fetch(self.target)
        finally:
            await reader.aclose()


@pytest.fixture
def fetch(server: HttpsServer, target: MemoryTarget) -> Fetch:
    return Fetch(server, target)


def test_an_archive_arrives_whole(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, etag='"abc"')
    assert fetch("/a.zip?key=1") == '"abc"'
    assert fetch.target.files == {None: BODY}
    assert fetch.target.announced == len(BODY)
    assert "range" not in fetch.server.seen[0].headers


def test_a_broken_connection_is_continued_where_it_broke(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, cut_after=100_000, num_cuts=2)
    fetch("/a.zip")
    assert fetch.target.files == {None: BODY}
    assert fetch.target.num_rewinds == 0
    ranges = [one.headers.get("range") for one in fetch.server.seen]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert fetch.server.seen[1].headers["if-range"] == '"1"'


def test_attempts_are_bounded(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, cut_after=10, num_cuts=99)
    with pytest.raises(SourceFailed, match="attempt 3"):
        fetch("/a.zip")
    assert len(fetch.server.seen) == 3


def test_a_file_that_changed_meanwhile_is_read_anew(fetch: Fetch) -> None:
    def change(file: File) -> None:
        file.etag, file.body = '"2"', BODY[::-1]

    fetch.server.paths["/a.zip"] = File(BODY, cut_after=1000, on_cut=change)
    assert fetch("/a.zip") == '"2"'
    assert fetch.target.files == {None: BODY[::-1]}
    assert fetch.target.num_rewinds == 1


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_etag_nothing_is_pieced_together(fetch: Fetch, etag: str) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, etag=etag, cut_after=1000)
    fetch("/a.zip")
    assert fetch.target.files == {None: BODY}
    assert fetch.target.num_rewinds == 1
    assert all("range" not in one.headers for one in fetch.server.seen)


def test_a_server_without_ranges_is_read_past_what_is_there(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, has_ranges=False, cut_after=1000)
    fetch("/a.zip")
    assert fetch.target.files == {None: BODY}
    assert fetch.target.num_rewinds == 0
    assert fetch.target.num_written == len(BODY)


def test_a_server_that_is_busy_is_asked_again(fetch: Fetch) -> None:
    answers = iter([File(b"", status=503), File(b"", status=429), File(BODY)])
    fetch.server.paths["/a.zip"] = lambda request: next(answers)(request)
    fetch("/a.zip")
    assert fetch.target.files == {None: BODY}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, SourceNotFound), (410, SourceNotFound), (401, SourceDenied), (403, SourceDenied),
     (400, SourceFailed), (204, SourceFailed), (206, SourceFailed), (500, SourceFailed)],
)  # fmt: skip
def test_a_status_that_is_no_file(fetch: Fetch, status: int, kind: type[RepertoireError]) -> None:
    fetch.server.paths["/a.zip"] = File(b"", status=status)
    with pytest.raises(kind):
        fetch("/a.zip")


def test_a_packed_answer_is_not_unpacked(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(SourceFailed, match="another encoding"):
        fetch("/a.zip")
    assert fetch.server.seen[0].headers["accept-encoding"] == "identity"


def test_what_is_too_large_is_refused_by_its_announced_size(fetch: Fetch) -> None:
    fetch.target.limit = len(BODY) - 1
    fetch.server.paths["/a.zip"] = File(BODY)
    with pytest.raises(UploadTooLarge):
        fetch("/a.zip")
    assert fetch.target.num_written == 0


def test_an_allowed_host_may_send_on_to_another(fetch: Fetch) -> None:
    fetch.hosts, fetch.token = (fetch.server.host("cdn.test"),), "secret-token"
    fetch.server.paths["/a.zip"] = Redirect("/b.zip")
    fetch.server.paths["/b.zip"] = Redirect(fetch.server.url("/c.zip?sig=1", "cdn.test"))
    fetch.server.paths["/c.zip"] = File(BODY, cut_after=1000)
    fetch("/a.zip")
    assert fetch.target.files == {None: BODY}
    tokens = [(one.host, one.headers.get("authorization")) for one in fetch.server.seen[:3]]
    bearer = "Bearer secret-token"
    assert tokens == [("files.test", bearer), ("files.test", bearer), ("cdn.test", None)]
    assert not [
        one for one in fetch.server.seen if one.host == "cdn.test" and "cookie" in one.headers
    ]


def test_a_host_that_is_not_allowed_gets_nothing(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = Redirect(fetch.server.url("/b.zip", "cdn.test"))
    fetch.server.paths["/b.zip"] = File(BODY)
    with pytest.raises(SourceRefused, match="--source-hosts"):
        fetch("/a.zip")
    assert [one.host for one in fetch.server.seen] == ["files.test"]


@pytest.mark.parametrize(
    "to",
    [
        "http://files.test/b.zip", "file:///etc/passwd", "https://u:p@files.test/b.zip",
        "//169.254.169.254/x",
    ],
)  # fmt: skip
def test_a_redirect_out_of_https_is_not_followed(fetch: Fetch, to: str) -> None:
    fetch.server.paths["/a.zip"] = Redirect(to)
    with pytest.raises(SourceRefused):
        fetch("/a.zip")


def test_a_redirect_to_a_private_address_of_an_allowed_host(fetch: Fetch) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "files.test" else ["10.0.0.1"]

    fetch.options, fetch.hosts = {"resolve": resolve}, (fetch.server.host("cdn.test"),)
    fetch.server.paths["/a.zip"] = Redirect(fetch.server.url("/b.zip", "cdn.test"))
    with pytest.raises(SourceRefused, match="no public address"):
        fetch("/a.zip")


def test_redirects_are_bounded(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = Redirect("/a.zip")
    with pytest.raises(SourceFailed, match="redirects"):
        fetch("/a.zip")
    assert len(fetch.server.seen) == 6


def test_cookies_are_not_taken_along(fetch: Fetch) -> None:
    fetch.server.paths["/a.zip"] = File(
        BODY, cut_after=9, headers={"Set-Cookie": "session=1; Path=/"}
    )
    fetch("/a.zip")
    assert len(fetch.server.seen) == 2
    assert all("cookie" not in one.headers for one in fetch.server.seen)


def test_hosts_that_are_not_allowed_are_refused_at_once(server: HttpsServer) -> None:
    address: Any = parse_address("https://other.test/a.zip?sig=secret")
    for hosts in ((), ("files.test",)):
        with pytest.raises(SourceRefused, match="--source-hosts") as caught:
            WebSource(address, server.reader(), hosts, {}, QUICK)
        assert "secret" not in str(caught.value)
