"""The balancer of `docker/haproxy.cfg` on free loopback ports, in front of any two servers."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from tests.server import ROOT, free_port

CONFIG = ROOT / "docker" / "haproxy.cfg"
BINARY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_haproxy = pytest.mark.skipif(
    BINARY is None, reason="there is no haproxy: `apt-get install haproxy` (or `.ci/run` as root)"
)


class Balancer:
    """`replicas`: two `host:port`, known as `replica-1` and `replica-2`; they need not run yet."""

    def __init__(
        self, replicas: Sequence[str], log: Path, *, config: Path = CONFIG, **variables: object
    ) -> None:
        port, statistics = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.statistics_url = f"http://127.0.0.1:{statistics}"
        self._log, self._config = log, config
        self._variables = {
            "BALANCER_BIND": f"127.0.0.1:{port}",
            "STATISTICS_BIND": f"127.0.0.1:{statistics}",
            "REPLICA_1": replicas[0],
            "REPLICA_2": replicas[1],
        } | {name: str(value) for name, value in variables.items()}

    def __enter__(self) -> Self:
        assert BINARY is not None
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [BINARY, "-db", "-f", str(self._config)],
                env=os.environ | self._variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_listening()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def up(self) -> set[str]:
        """The replicas that its checks find ready."""
        rows = httpx.get(f"{self.statistics_url}/;csv", timeout=10).text.splitlines()
        columns = rows[0].removeprefix("# ").split(",")
        servers = (dict(zip(columns, row.split(","), strict=False)) for row in rows[1:])
        return {
            one["svname"]
            for one in servers
            if one["pxname"] == "replicas" and one["status"].startswith("UP")
        } - {"BACKEND"}

    def wait_until_up(self, *names: str) -> None:
        """Until these are ready and no others."""
        for _ in range(300):
            if self.up() == set(names):
                return
            time.sleep(0.1)
        raise AssertionError(f"up are {self.up()}, not {names}:\n{self.log}")

    def _wait_until_listening(self) -> None:
        for _ in range(300):
            if self.process.poll() is not None:
                raise AssertionError(f"haproxy ended:\n{self.log}")
            try:
                self.up()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"haproxy does not answer:\n{self.log}")
