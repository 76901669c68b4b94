"""Two server processes, one store, a real Redis: what is done on one holds on the other, nothing
acknowledged is lost, and without Redis what is known is served."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import tiny_adapters as tiny
from tests.redis_server import RedisServer, needs_redis
from tests.server import ROOT, Server
from tests.waiting import until

pytestmark = needs_redis

OPERATOR = {"Authorization": "Bearer op"}


class Pair:
    def __init__(self, base: Path, work: Path, redis: RedisServer) -> None:
        self.redis, self.store = redis, work / "store"
        self._base, self._work = base, work
        self.servers = [self.make(name) for name in "ab"]

    def make(self, name: str) -> Server:
        work = self._work / name
        work.mkdir(exist_ok=True)
        settings = {"api_key": "op", "redis_url": self.redis.url, "replica_id": name}
        return Server(self._base, work, store=self.store, store_poll_s=1, **settings)


@pytest.fixture(scope="module")
def pair(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    work = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        pair = Pair(base_folder, work, stack.enter_context(RedisServer(work)))
        for server in pair.servers:
            stack.enter_context(server)
            server.client.headers.update(OPERATOR)
        yield pair


def is_served(server: Server, model: str, **headers: str) -> bool:
    body = {"model": model, "prompt": [1, 2], "max_tokens": 2}
    return server.client.post("/v1/completions", json=body, headers=headers).status_code == 200


def body_of(response: httpx.Response, status: int = 201) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def ready(server: Server) -> tuple[int, str]:
    response = server.client.get("/ready")
    return response.status_code, response.json()["status"]


def new_key(server: Server, **fields: Any) -> tuple[str, dict[str, str]]:
    key = body_of(server.client.post("/v1/keys", json={"role": "use", **fields}))
    return key["id"], {"Authorization": f"Bearer {key['secret']}"}


def test_two_replicas_are_one_service(pair: Pair, tmp_path: Path) -> None:
    one, other = pair.servers
    assert one.upload("task", tiny.write(tmp_path / "1", 1)).status_code == 201
    until(lambda: is_served(other, "task"))
    again = body_of(other.upload("task", tiny.write(tmp_path / "2", 2)))
    assert again["version"] == 2
    until(lambda: is_served(one, "task@2"))
    body_of(other.client.post("/v1/tenants", json={"name": "team-a"}))
    key_id, key = new_key(other, tenant="team-a")
    until(lambda: is_served(one, "task", **key))

    pair.redis.kill()
    until(lambda: {ready(server) for server in pair.servers} == {(200, "degraded")})
    assert one.metric("repertoire_redis_up") == 0
    for server in pair.servers:
        assert is_served(server, "task", **key)
        refused = [
            server.upload("late", tmp_path / "1"),
            server.client.patch("/v1/adapters/task", json={"aliases": {"x": 1}}),
            server.client.delete("/v1/adapters/task"),
            server.client.post("/v1/keys", json={"role": "use"}),
            server.client.delete(f"/v1/keys/{key_id}"),
            server.client.post("/v1/tenants", json={"name": "team-b"}),
            server.client.post("/v1/adapters:gc"),
        ]
        assert {one.status_code for one in refused} == {503}
        assert all(int(one.headers["retry-after"]) > 0 for one in refused)
        assert server.client.get("/v1/audit").status_code == 200
        assert server.client.get("/v1/usage").status_code == 200

    pair.redis.restart_empty()
    until(lambda: {ready(server) for server in pair.servers} == {(200, "ready")})
    assert one.client.delete(f"/v1/keys/{key_id}").status_code == 200
    until(lambda: not is_served(other, "task", **key))
    assert one.client.delete("/v1/adapters/task").status_code == 200
    until(lambda: not is_served(other, "task"))
    body_of(other.client.post("/v1/adapters/task/restore"), 200)
    until(lambda: is_served(one, "task"))


def test_a_killed_replica_comes_back_with_everything(pair: Pair, tmp_path: Path) -> None:
    one, other = pair.servers
    body_of(one.upload("kept", tiny.write(tmp_path / "3", 3)))
    key_id, key = new_key(one)
    one.kill()
    until(lambda: is_served(other, "kept", **key))
    body_of(other.upload("kept", tiny.write(tmp_path / "4", 4)))
    with pair.make("a") as again:
        again.client.headers.update(OPERATOR)
        assert is_served(again, "kept@2", **key), "before it is ready it has read everything"
        assert again.client.get("/v1/adapters/kept").json()["current"]["version"] == 2
        assert again.client.delete(f"/v1/keys/{key_id}").status_code == 200
        until(lambda: not is_served(other, "kept", **key))


def test_a_replica_that_starts_without_redis_serves_and_heals(pair: Pair, tmp_path: Path) -> None:
    other = pair.servers[1]
    body_of(other.upload("early", tiny.write(tmp_path / "5", 5)))
    pair.redis.kill()
    with pair.make("c") as late:
        late.client.headers.update(OPERATOR)
        assert ready(late) == (200, "degraded")
        assert is_served(late, "early")
        assert late.upload("early", tmp_path / "5").status_code == 503
        pair.redis.restart_empty()
        until(lambda: ready(late) == (200, "ready"))
        until(lambda: late.upload("later", tmp_path / "5").status_code == 201)
        until(lambda: is_served(other, "later"))


def test_rebuild_fills_redis_while_replicas_run(pair: Pair) -> None:
    pair.redis.restart_empty()
    settings = {"ADAPTERS_STORE": pair.store, "REDIS_URL": pair.redis.url}
    environment = {f"REPERTOIRE_{name}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "service", "rebuild"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "journal: 4 logs" in done.stdout
    with pair.redis.client as client:
        assert len(client.keys("repertoire:mirror:*:log:journal/*")) == 4


def test_who_believes_to_be_alone_may_not_join(pair: Pair, base_folder: Path) -> None:
    work = pair.store.parent / "alone"
    work.mkdir()
    with pytest.raises(AssertionError, match="used by another process"):
        Server(base_folder, work, store=pair.store).__enter__()
