"""A server on loopback with a certificate for made-up names; what it does is said per path."""

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import trustme

from service.sources.patience import Patience
from service.sources.web_reader import WebReader

NAMES = ("files.test", "cdn.test", "hub.test", "localhost")
LOOPBACK = (ip_network("127.0.0.0/8"),)
QUICK = Patience(num_attempts=3, first_wait_s=0.001)


@dataclass
class File:
    """Answers like a server of files; its oddities are for tests."""

    body: bytes
    etag: str = '"1"'
    has_ranges: bool = True
    cut_after: int | None = None
    """Of the next answers, as many as `num_cuts`, no more than so many bytes are sent."""
    num_cuts: int = 1
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    on_cut: Callable[["File"], None] = lambda _: None
    gate: threading.Event | None = None
    """The second half is sent when it is set."""
    is_gated: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        start = self._start(request)
        body = self.body[start:]
        request.send_response(self.status if self.status != 200 or not start else 206)
        request.send_header("Content-Length", str(len(body)))
        if self.etag:
            request.send_header("ETag", self.etag)
        if start:
            end = len(self.body) - 1
            request.send_header("Content-Range", f"bytes {start}-{end}/{len(self.body)}")
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.end_headers()
        if self.cut_after is not None and self.num_cuts:
            self.num_cuts -= 1
            request.wfile.write(body[: self.cut_after])
            request.close_connection = True
            self.on_cut(self)
            return
        if self.gate is not None:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            self.is_gated.set()
            self.gate.wait(20)
            body = body[len(body) // 2 :]
        request.wfile.write(body)

    def _start(self, request: BaseHTTPRequestHandler) -> int:
        wanted = request.headers.get("Range", "")
        is_same = request.headers.get("If-Range", self.etag) == self.etag
        if not (self.has_ranges and wanted and is_same):
            return 0
        return int(wanted.removeprefix("bytes=").partition("-")[0])


@dataclass(frozen=True)
class Redirect:
    to: str

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", self.to)
        request.send_header("Content-Length", "0")
        request.end_headers()


@dataclass(frozen=True)
class Seen:
    host: str
    path: str
    headers: dict[str, str]


class HttpsServer:
    def __init__(self, ca: trustme.CA) -> None:
        self.ca = ca
        self.paths: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.seen: list[Seen] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*NAMES).configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port: int = self.server.server_port

    def url(self, path: str, host: str = "files.test") -> str:
        return f"https://{host}:{self.port}{path}"

    def host(self, name: str = "files.test") -> str:
        """As in the settings."""
        return f"{name}:{self.port}"

    def reader(self, **options: Any) -> WebReader:
        """One that trusts it, and finds it by each of its names."""

        async def resolve(host: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        trust = ssl.create_default_context()
        self.ca.configure_trust(trust)
        given = {"networks": LOOPBACK, "resolve": resolve, "trust": trust} | options
        return WebReader(given.pop("networks"), **given)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                host = headers["host"].partition(":")[0]
                owner.seen.append(Seen(host, self.path, headers))
                answer = owner.paths.get(path)
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        return Handler


@contextmanager
def https_server() -> Iterator[HttpsServer]:
    made = HttpsServer(trustme.CA())
    # A client that hangs up, as most tests here make it, is no reason for a traceback.
    made.server.handle_error = lambda *_: None
    threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
