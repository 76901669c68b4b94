"""The proxy that other tests blame on the network does what they believe, and the server too."""

import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


def connect(server: RedisServer, proxy: FaultProxy, timeout: float = 30) -> redis.Redis:
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(server.url_at(proxy.port), socket_timeout=timeout, retry=retry)


def test_what_is_not_disturbed_arrives(server: RedisServer, proxy: FaultProxy) -> None:
    client = connect(server, proxy)
    client.set("large", b"x" * 300_000)
    assert client.get("large") == b"x" * 300_000


@pytest.mark.parametrize("after_bytes", [0, 3])
def test_a_cut_answer_was_carried_out(
    server: RedisServer, proxy: FaultProxy, after_bytes: int
) -> None:
    client = connect(server, proxy)
    client.set("n", 0)
    proxy.cut_answers(after_bytes=after_bytes)
    with pytest.raises(redis.ConnectionError):
        client.incr("n", 1000)
    assert client.get("n") == b"1000"


def test_silence_and_delay_run_into_the_timeout(server: RedisServer, proxy: FaultProxy) -> None:
    client = connect(server, proxy, timeout=0.1)
    client.ping()
    for fault in (proxy.silence, lambda: proxy.delay(0.5)):
        fault()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.heal()
        assert client.ping()


def test_what_is_cut_or_refused_works_again_once_healed(
    server: RedisServer, proxy: FaultProxy
) -> None:
    client = connect(server, proxy)
    client.ping()
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.heal()
    assert client.ping()


def test_a_server_restarts_with_or_without_what_it_knew(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.client.set("a", "1")
        server.restart_with_data()
        assert server.client.get("a") == "1"
        server.restart_empty()
        assert server.client.get("a") is None


def test_a_replica_is_read_only_until_it_is_promoted(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as first, RedisServer(tmp_path, replica_of=first) as second:
        first.client.set("a", "1")
        second.wait_until_synced()
        with pytest.raises(redis.ReadOnlyError):
            second.client.set("a", "2")
        second.promote()
        second.client.set("a", "2")
        first.follow(second)
        first.wait_until_synced()
        deadline = time.monotonic() + 30
        while first.client.get("a") != "2":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(redis.ReadOnlyError):
            first.client.set("a", "3")
