"""A moto server on a free loopback port: S3 in memory, whose data outlive a restart of its port.

moto looks whether a key is there and then writes it, so two writers of `If-None-Match: *` could
both win. S3 has one winner, so here such writes take turns.
"""

import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

from service.adapters.backends.s3.client import S3Endpoint, s3_client

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of-a-test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a process needs in its environment to be let in."""

_BUCKETS = itertools.count()

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    def __init__(self, *, honours_conditions: bool = True) -> None:
        """Without `honours_conditions` it is one of those that take a conditional write for any
        other."""
        self._honours_conditions = honours_conditions
        self._app: Wsgi = DomainDispatcherApplication(create_backend_app)
        self._writes = threading.Lock()
        self._server: BaseWSGIServer | None = None
        self.port = 0
        self.requests: list[tuple[str, str]] = []
        """Method and path of each, in the order in which they came."""
        self.answers_to_lose = 0
        """Of writes: so many of the next are done, and nobody is told."""

    def __enter__(self) -> Self:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in CREDENTIALS.items():
                patch.setenv(name, value)
            self.start()
            self.client = s3_client(S3Endpoint(self.url))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        self._server = make_server(
            "127.0.0.1", self.port, self._serve, threaded=True, request_handler=_Quiet
        )
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def new_bucket(self) -> str:
        """One that no other test has."""
        name = f"bucket-{next(_BUCKETS)}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def _serve(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if environ["REQUEST_METHOD"] != "PUT":
            return self._app(environ, respond)
        if not self._honours_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with self._writes:
            answer = list(self._app(environ, respond))
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer


class _Quiet(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
