"""Two server processes, one store, a real Redis: what is done on one holds on the other, nothing
acknowledged is lost, and without Redis what is known is served."""

import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.e2e import tiny_adapters as tiny
from tests.endpoint_picker import read
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis
from tests.server import ROOT, Server, environment_of
from tests.waiting import until

pytestmark = needs_redis

OPERATOR = {"Authorization": "Bearer op"}
USER = "somebody on >hidden-word ~fleet:* resetchannels &fleet:* +@all -@admin -@dangerous"
"""What the README asks for."""


class Pair:
    """Redis is reached over TLS, by a user who may use nothing else there."""

    def __init__(self, base: Path, work: Path, redis: RedisServer, redis_url: str) -> None:
        self.redis, self.store, self.sources = redis, work / "store", work / "sources"
        self._base, self._work = base, work
        self._fleet = {"redis_url": redis_url, "redis_key_prefix": "fleet:"}
        self.servers = [self.make(name) for name in "ab"]

    def make(self, name: str) -> Server:
        work = self._work / name
        work.mkdir(exist_ok=True)
        settings = {"api_key": "op", "replica_id": name, "store_poll_s": 1}
        settings |= {"native_kernels": False, "threads": 1, "source_root": self.sources}
        return Server(self._base, work, store=self.store, **settings, **self._fleet)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One that works on the same store, with the same Redis."""
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env=environment_of({"adapters_store": self.store, **self._fleet}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def pair(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    work = tmp_path_factory.mktemp("fleet")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = work / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(work, user=USER))
        proxy = stack.enter_context(FaultProxy(redis.port, tls=context))
        url = f"rediss://somebody:hidden-word@127.0.0.1:{proxy.port}/0?ssl_ca_certs={trusted}"
        pair = Pair(base_folder, work, redis, url)
        start_all(stack, pair.servers)
        yield pair


def start_all(stack: ExitStack, servers: Sequence[Server]) -> None:
    """At once, each asked as an operator."""
    for server in servers:
        server.start()
        stack.callback(server.kill)
    for server in servers:
        stack.enter_context(server)
        server.client.headers.update(OPERATOR)


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


def check_nothing_changes(server: Server, name: str, key_id: str, folder: Path) -> None:
    """`name` is known to the server."""
    refused = [
        server.upload("late", folder),
        server.client.patch(f"/v1/adapters/{name}", json={"aliases": {"x": 1}}),
        server.client.delete(f"/v1/adapters/{name}"),
        server.client.post("/v1/keys", json={"role": "use"}),
        server.client.delete(f"/v1/keys/{key_id}"),
        server.client.post("/v1/tenants", json={"name": "team-b"}),
        server.client.post("/v1/adapters:gc"),
    ]
    assert {one.status_code for one in refused} == {503}
    assert all(int(one.headers["retry-after"]) > 0 for one in refused)


def at_once(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda call: call(), calls))


def move(server: Server, name: str, target: dict[str, int], tag: str) -> httpx.Response:
    body = {"aliases": {"a": target}}
    return server.client.patch(f"/v1/adapters/{name}", json=body, headers={"If-Match": tag})


def etag_of(server: Server, name: str) -> str:
    return server.client.get(f"/v1/adapters/{name}").headers["etag"]


def versions_of(server: Server, name: str) -> dict[int, str]:
    """Digests by number."""
    body = body_of(server.client.get(f"/v1/adapters/{name}"), 200)
    return {one["version"]: one["digest"] for one in body["versions"]}


def test_two_replicas_are_one_service(pair: Pair, tmp_path: Path) -> None:
    one, other = pair.servers
    assert one.upload("task", tiny.write(tmp_path / "1", 1)).status_code == 201
    until(lambda: is_served(other, "task"))
    assert other.metric("repertoire_adapter_tier_hits_total", tier="store") == 1
    assert other.metric("repertoire_adapter_tier_misses_total", tier="store") == 0
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
        check_nothing_changes(server, "task", key_id, tmp_path / "1")
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


def test_every_replica_says_how_an_import_goes(pair: Pair) -> None:
    one, other = pair.servers
    tiny.write(pair.sources / "imported", 5)
    body = {"name": "imported", "source": "imported"}
    path = one.client.post("/v1/adapters", json=body).headers["location"]
    until(lambda: other.client.get(path).json().get("state") == "ready")
    assert other.client.get(path).json() == one.client.get(path).json()
    assert other.client.get("/v1/imports").json() == one.client.get("/v1/imports").json()
    assert other.client.delete(path).json()["state"] == "ready"


def test_a_store_that_is_away_is_not_taken_for_an_empty_one(pair: Pair, tmp_path: Path) -> None:
    one, other = pair.servers
    folder = tiny.write(tmp_path / "5", 5)
    body_of(one.upload("away", folder))
    until(lambda: is_served(other, "away"))
    key_id, key = new_key(one)
    until(lambda: is_served(other, "away", **key))
    body_of(one.upload("cold", tiny.write(tmp_path / "6", 6)))
    until(lambda: other.client.get("/v1/models/cold").status_code == 200)
    aside = pair.store.with_name("aside")
    pair.store.rename(aside)
    pair.store.mkdir()  # as an empty mount point
    until(lambda: {ready(server) for server in pair.servers} == {(200, "degraded")})
    assert one.metric("repertoire_store_up") == 0
    for server in pair.servers:
        assert is_served(server, "away", **key)
        assert server.client.get("/v1/adapters/away").status_code == 200
        check_nothing_changes(server, "away", key_id, folder)
        assert server.client.get("/v1/audit").status_code == 503
        assert server.client.get("/v1/usage").status_code == 503
    assert is_served(one, "cold"), "its disk has it"
    cold = other.client.post("/v1/completions", json={"model": "cold", "prompt": [1, 2]})
    assert (cold.status_code, cold.json()["error"]["code"]) == (503, "store_unavailable")
    assert list(pair.store.iterdir()) == []
    pair.store.rmdir()
    aside.rename(pair.store)
    until(lambda: {ready(server) for server in pair.servers} == {(200, "ready")})
    until(lambda: is_served(other, "cold"))
    assert one.client.delete(f"/v1/keys/{key_id}").status_code == 200
    until(lambda: not is_served(other, "away", **key))


def in_memory(server: Server) -> tuple[str, dict[str, str]]:
    params = {"tier": ["device", "host"]}
    body = body_of(server.client.get("/v1/residency", params=params), 200)
    return body["replica"], {one["id"]: one["tier"] for one in body["data"]}


def test_each_replica_tells_what_it_has_itself(pair: Pair, tmp_path: Path) -> None:
    one, other = pair.servers
    body_of(one.upload("near", tiny.write(tmp_path / "near", 66)))
    until(lambda: other.client.get("/v1/adapters/near").status_code == 200)
    assert is_served(one, "near")
    (name, here), (other_name, there) = in_memory(one), in_memory(other)
    assert (name, other_name) == ("a", "b")
    assert here["near@1"] == "device"
    assert "near@1" not in there
    seen, unseen = (read(server.client.get("/metrics").text) for server in pair.servers)
    assert seen.load_state("near") == 1.0 > unseen.load_state("near")


def test_of_many_moves_on_one_etag_one_wins_whichever_replica_takes_it(
    pair: Pair, tmp_path: Path
) -> None:
    for number in (10, 11):
        body_of(pair.servers[0].upload("raced", tiny.write(tmp_path / str(number), number)))
    for turn in range(4):
        # As one replica sees it: the other may not have heard of it yet.
        seen = pair.servers[turn % 2].client.get("/v1/adapters/raced")
        wanted = [{"1": 100 * turn + number, "2": 1} for number in range(1, 17)]
        moves = [
            partial(move, to, "raced", target, seen.headers["etag"])
            for target, to in zip(wanted, 8 * pair.servers, strict=True)
        ]
        answers = at_once(moves)
        assert Counter(one.status_code for one in answers) == {200: 1, 412: 15}
        (winner,) = (answer for answer in answers if answer.status_code == 200)
        won = wanted[answers.index(winner)]
        for server in pair.servers:
            until(lambda one=server, tag=winner.headers["etag"]: etag_of(one, "raced") == tag)
            assert server.client.get("/v1/adapters/raced").json()["aliases"] == {"a": won}


def test_of_uploads_to_both_replicas_none_is_lost_and_no_number_is_left_out(
    pair: Pair, tmp_path: Path
) -> None:
    folders = [tiny.write(tmp_path / str(number), number) for number in range(20, 28)]
    uploads = [
        partial(to.upload, "busy", folder)
        for folder, to in zip(folders, 4 * pair.servers, strict=True)
    ]
    made = {body["version"]: body["digest"] for body in map(body_of, at_once(uploads))}
    assert sorted(made) == list(range(1, 9))
    assert len(set(made.values())) == 8
    for server in pair.servers:
        until(lambda one=server: versions_of(one, "busy") == made)


def test_rebuild_fills_redis_while_replicas_run(pair: Pair) -> None:
    num_names = len(pair.servers[0].client.get("/v1/adapters").json()["data"])
    pair.redis.restart_empty()
    done = pair.command("rebuild")
    assert done.returncode == 0, done.stderr
    assert f"journal: {num_names} logs" in done.stdout
    with pair.redis.client as client:
        assert len(client.keys("fleet:mirror:*:log:journal/*")) == num_names
    until(lambda: {ready(server) for server in pair.servers} == {(200, "ready")})


def test_who_believes_to_be_alone_may_not_join(pair: Pair) -> None:
    done = pair.command("gc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "used by another process" in done.stderr


def test_a_killed_replica_comes_back_with_everything_also_without_redis(
    pair: Pair, tmp_path: Path
) -> None:
    one, other = pair.servers
    body_of(one.upload("kept", tiny.write(tmp_path / "3", 3)))
    key_id, key = new_key(one)
    one.kill()
    until(lambda: is_served(other, "kept", **key))
    body_of(other.upload("kept", tiny.write(tmp_path / "4", 4)))
    pair.redis.kill()
    with pair.make("a") as again:
        again.client.headers.update(OPERATOR)
        assert ready(again) == (200, "degraded")
        assert is_served(again, "kept@2", **key), "before it is ready it has read everything"
        assert again.client.get("/v1/adapters/kept").json()["current"]["version"] == 2
        assert again.upload("late", tmp_path / "3").status_code == 503

        pair.redis.restart_empty()
        until(lambda: {ready(server) for server in (again, other)} == {(200, "ready")})
        assert again.client.delete(f"/v1/keys/{key_id}").status_code == 200
        until(lambda: not is_served(other, "kept", **key))
        body_of(again.upload("late", tmp_path / "3"))
        until(lambda: is_served(other, "late"))
        for server in (again, other):
            assert "redis_up" in server.log
            assert not {word for word in ("somebody", "hidden-word") if word in server.log}
