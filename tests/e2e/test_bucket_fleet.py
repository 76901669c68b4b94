"""Two server processes, one bucket, a real Redis: uploaded here, used there, compiled once; without
the bucket what is known is served."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import tiny_adapters as tiny
from tests.e2e.test_fleet import is_served, start_all
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis
from tests.s3_server import CREDENTIALS, S3Server
from tests.server import ROOT, Server, environment_of
from tests.waiting import until

pytestmark = needs_redis


class Pair:
    def __init__(
        self, base: Path, work: Path, redis: RedisServer, proxy: FaultProxy, bucket: str
    ) -> None:
        self.proxy, self.bucket, self.work = proxy, bucket, work
        self.settings: dict[str, Any] = {
            "adapters_store": f"s3://{bucket}/fleet",
            "s3_endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "redis_url": redis.url,
        }
        self.servers = [self._make(base, name) for name in "ab"]

    def _make(self, base: Path, name: str) -> Server:
        work = self.work / name
        work.mkdir()
        settings = {"api_key": "op", "replica_id": name, "threads": 1, "native_kernels": False}
        return Server(base, work, store_poll_s=1, usage_flush_s=1, **settings, **self.settings)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One that works on the same store."""
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env=environment_of({**self.settings, "cache_dir": self.work / "cache"}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def pair(base_folder: Path, tmp_path: Path, s3: S3Server) -> Iterator[Pair]:
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            os, "environ", {**os.environ, **CREDENTIALS}
        )
        redis = stack.enter_context(RedisServer(tmp_path))
        proxy = stack.enter_context(FaultProxy(s3.port))
        pair = Pair(base_folder, tmp_path, redis, proxy, s3.new_bucket())
        start_all(stack, pair.servers)
        yield pair


def test_a_bucket_is_a_store(pair: Pair, s3: S3Server, tmp_path: Path) -> None:
    one, other = pair.servers
    assert one.upload("task", tiny.write(tmp_path / "1", 1)).status_code == 201
    until(lambda: is_served(other, "task"))
    assert other.metric("repertoire_adapter_tier_hits_total", tier="store") == 1
    assert other.metric("repertoire_adapter_tier_misses_total", tier="store") == 0
    (form,) = s3.keys(pair.bucket, "fleet/forms/")
    assert form.endswith(".terms")

    pair.proxy.refuse()
    refused = one.upload("late", tmp_path / "1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    until(lambda: other.client.get("/ready").json()["status"] == "degraded")
    for server in pair.servers:
        assert is_served(server, "task")
    pair.proxy.heal()
    until(lambda: one.upload("late", tmp_path / "1").status_code in (200, 201))
    until(lambda: is_served(other, "late"))

    assert other.client.delete("/v1/adapters/task").status_code == 200
    until(lambda: not is_served(one, "task"))
    until(lambda: one.client.get("/v1/usage").json()["total"]["requests"] >= 3)
    rebuilt = pair.command("rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "journal: 2 logs of 3 records" in rebuilt.stdout
    for server in pair.servers:
        assert server.terminate() == 0
        for secret in (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in server.log
    assert s3.keys(pair.bucket, "fleet/holds/") == []
    collected = pair.command("gc", "--deleted-retention-s", "0", "--dry-run")
    assert collected.returncode == 0, collected.stderr
    assert "would be freed: 0 versions" in collected.stdout, "it may be somebody's for an hour"
