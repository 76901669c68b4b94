"""uvicorn with a drain: after SIGTERM it still answers probes until the running requests end."""

import asyncio
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from service.api.connection import BoundedProtocol, ConnectionLimits
from service.api.dependencies import Services
from service.errors import ConfigurationError
from service.handlers.lifecycle import Lifecycle, LifecycleState
from service.settings import Settings

_SPARE_FILES = 1024
_CUT_OFF_SECONDS = 2
"""What is still running when the drain is over gets this long to notice."""


class DrainingServer(uvicorn.Server):
    """uvicorn alone stops listening at the signal, so that a balancer sees refused connections
    instead of a 503, and ends with the signal's exit code."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        drain_timeout_s: float,
        on_started: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_timeout_s = drain_timeout_s
        self._on_started = on_started
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The first signal drains, a second one ends the process at once."""
        if self._lifecycle.state is LifecycleState.DRAINING:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        self._deadline = time.monotonic() + self._drain_timeout_s
        self._lifecycle.start_draining()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._is_drained()

    def _is_drained(self) -> bool:
        if self._deadline is None:
            return False
        return self._lifecycle.num_requests == 0 or time.monotonic() >= self._deadline


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
    server = DrainingServer(config, lifecycle, settings.drain_timeout_s, on_started)
    server.run()
    return 0 if server.started else 1
