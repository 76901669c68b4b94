"""uvicorn with a drain. After SIGTERM `/ready` is red; new requests are served until balancers have
noticed, and refused from then on; probes are answered until the running requests end."""

import asyncio
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from service.api.connection import BoundedProtocol, ConnectionLimits
from service.api.dependencies import Services
from service.errors import ConfigurationError
from service.handlers.lifecycle import Lifecycle
from service.settings import Settings

_SPARE_FILES = 1024
_CUT_OFF_SECONDS = 2
"""What is still running when the drain is over gets this long to notice."""


@dataclass(frozen=True, slots=True)
class Drain:
    delay_s: float
    """How long new requests are still served after the signal."""
    timeout_s: float
    """How long running ones may take from then on."""


class DrainingServer(uvicorn.Server):
    """uvicorn alone stops listening at the signal, so that a balancer sees refused connections
    instead of a 503, and ends with the signal's exit code."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        drain: Drain,
        on_started: Callable[[str], None],
        cut_off: Callable[[], None],
    ) -> None:
        """`cut_off` ends the streams that still run when the drain is over."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain = drain
        self._on_started = on_started
        self._cut_off = cut_off
        self._signalled: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The first signal drains, a second one ends the process at once."""
        if self._signalled is not None:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        self._signalled = time.monotonic()
        self._lifecycle.start_leaving()
        if not self._drain.delay_s:
            self._lifecycle.start_draining()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def on_tick(self, counter: int) -> bool:
        is_over = await super().on_tick(counter) or self._is_drained()
        if is_over:
            self._cut_off()
        return is_over

    def _is_drained(self) -> bool:
        if self._signalled is None:
            return False
        seconds = time.monotonic() - self._signalled - self._drain.delay_s
        if seconds < 0:
            return False
        self._lifecycle.start_draining()
        is_idle = self._lifecycle.num_requests == 0 and not self._is_sending()
        return is_idle or seconds >= self._drain.timeout_s

    def _is_sending(self) -> bool:
        """An answer is complete for the application before its client has taken the last byte."""
        connections = cast("set[BoundedProtocol]", self.server_state.connections)
        return any(one.transport.get_write_buffer_size() for one in connections)


def check_port_is_free(host: str, port: int, flag: str = "--port") -> None:
    """Raises `ConfigurationError`: uvicorn itself would only find out once the base is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or "no such address"
        raise ConfigurationError(f"{flag}: cannot listen on {host}:{port} ({reason})") from error


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    services: Services = app.state.services
    requests = services.telemetry.metrics.requests

    def count(status: int) -> None:
        requests.labels("connection", str(status)).inc()

    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # uvicorn takes any callable that makes a protocol.
        http=cast(
            "type[asyncio.Protocol]",
            partial(BoundedProtocol, limits=ConnectionLimits.of(settings), refused=count),
        ),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=_CUT_OFF_SECONDS,
    )


def _allow_files(num_connections: int) -> None:
    """The usual 1024 are fewer than the connections and files of a busy server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_connections + _SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_server(
    app: FastAPI, settings: Settings, lifecycle: Lifecycle, on_started: Callable[[str], None]
) -> int:
    """Serve until a signal; the exit code."""
    _allow_files(settings.max_connections)
    config = server_config(app, settings)
    services: Services = app.state.services
    drain = Drain(settings.drain_delay, settings.drain_timeout_s)
    server = DrainingServer(config, lifecycle, drain, on_started, services.engine.cut_off)
    server.run()
    return 0 if server.started else 1
