"""The link is up or down, says so at once, hangs never, and comes back by itself."""

import asyncio
import ssl
from pathlib import Path

import pytest
import structlog
import trustme

from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.status import LinkPace, LinkStatus
from service.errors import StoreUnavailable
from tests.adapters.backends.conftest import PACE, Connect
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis
from tests.waiting import until, until_async

pytestmark = needs_redis

ECHO = "return {KEYS[1], ARGV[1]}"
COUNT = "return redis.call('INCR', KEYS[1])"


def silence_heart(link: RedisLink) -> None:
    """As if its process had died: nothing is said to the others."""
    link._stopping.set()
    link._wake.set()
    link._thread.join()


def test_threads_and_the_loop_run_scripts_below_the_prefix(
    connect: Connect, server: RedisServer
) -> None:
    link = connect()

    async def main() -> list[str]:
        try:
            return await link.acall(ECHO, ["a"], ["x"])
        finally:
            await link.aclose()

    assert link.call(ECHO, ["a"], ["x"]) == asyncio.run(main()) == [link.key("a"), "x"]
    assert link.key("a") != "a"


def test_replicas_that_live_are_known_and_those_that_stop_or_fall_silent_are_not(
    connect: Connect,
) -> None:
    now = [1_000_000]
    links = [
        connect(name, about={"version": name}, clock_ms=lambda: now[0])
        for name in ("one", "two", "three")
    ]
    until(lambda: all(link.status.num_replicas == 3 for link in links))
    assert links[0].live_replicas()["two"] == {"version": "two"}
    links[2].stop()
    until(lambda: links[0].status.num_replicas == 2)
    assert set(links[0].live_replicas()) == {"one", "two"}
    silence_heart(links[1])
    now[0] += 60_000
    until(lambda: links[0].status.num_replicas == 1)
    assert set(links[0].live_replicas()) == {"one"}


@pytest.mark.parametrize("fault", ["refuse", "silence", "delay"])
def test_what_does_not_answer_is_down_and_then_costs_nobody_anything(
    connect: Connect, proxy: FaultProxy, fault: str
) -> None:
    link = connect()
    seen: list[bool] = []
    link.on_change(lambda status: seen.append(status.is_up))
    getattr(proxy, fault)(*([5.0] if fault == "delay" else []))
    with pytest.raises(StoreUnavailable):
        link.call(ECHO, ["a"], ["x"])
    assert not link.is_up
    asked = proxy.num_connections
    silence_heart(link)  # the one who may look at the network
    for _ in range(100):
        with pytest.raises(StoreUnavailable):
            link.call(ECHO, ["a"], ["x"])
    assert proxy.num_connections <= asked + 2
    link._stopping.clear()
    proxy.heal()
    link.start()
    assert link.call(ECHO, ["a"], ["x"])
    assert (seen[0], seen[-1]) == (False, True)
    assert link.status.num_ups == 2
    assert link.status.num_errors > 0


def test_the_loop_is_not_held_up_either(connect: Connect, proxy: FaultProxy) -> None:
    link = connect()

    async def main() -> None:
        await link.acall(ECHO, ["a"], ["x"])
        proxy.silence()
        calls = [link.acall(ECHO, ["a"], ["x"]) for _ in range(50)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert all(isinstance(result, StoreUnavailable) for result in results)
        proxy.heal()
        await until_async(lambda: link.is_up)
        assert await link.acall(ECHO, ["b"], ["x"]) == [link.key("b"), "x"]
        await link.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("after_bytes", [0, 2])
def test_an_answer_that_is_cut_is_asked_for_again(
    connect: Connect, proxy: FaultProxy, after_bytes: int
) -> None:
    link = connect(pace=LinkPace(heartbeat_s=60))

    async def main() -> None:
        assert await link.acall(COUNT, ["n"], []) == 1
        proxy.cut_answers(after_bytes=after_bytes)
        assert await link.acall(COUNT, ["n"], []) == 3, "carried out twice, answered once"
        await link.aclose()

    asyncio.run(main())
    proxy.cut_answers(after_bytes=after_bytes)
    assert link.call(COUNT, ["n"], []) >= 4
    assert link.status.is_up
    assert link.status.num_ups == 1


def test_a_cancelled_call_leaves_no_answer_for_the_next(
    connect: Connect, proxy: FaultProxy
) -> None:
    link = connect(pace=LinkPace(timeout_s=5, heartbeat_s=60))

    async def main() -> None:
        await link.acall(ECHO, ["a"], ["old"])
        proxy.delay(0.2)
        calls = [asyncio.create_task(link.acall(ECHO, ["a"], [f"old{i}"])) for i in range(20)]
        await asyncio.sleep(0.05)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        proxy.delay(0)
        for i in range(40):
            assert await link.acall(ECHO, ["a"], [f"new{i}"]) == [link.key("a"), f"new{i}"]
        await link.aclose()

    asyncio.run(main())


def test_an_empty_redis_is_another_epoch_and_a_restarted_one_is_not(
    tmp_path: Path,
) -> None:
    with RedisServer(tmp_path) as server:
        link = RedisLink(parse_address(server.url), "t:", "one", pace=PACE)
        link.start()
        first = link.status
        server.restart_with_data()
        until(lambda: link.is_up)
        link._beat()
        assert link.status.epoch == first.epoch
        seen: list[LinkStatus] = []
        link.on_change(seen.append)
        server.restart_empty()
        until(lambda: link.is_up and link.status.epoch != first.epoch)
        third = link.status.epoch
        server.client.flushall()
        until(lambda: link.status.epoch != third)
        assert seen[-1].epoch == link.status.epoch
        link.stop()


def test_a_former_primary_counts_as_away_until_the_address_leads_to_the_new_one(
    tmp_path: Path,
) -> None:
    with (
        RedisServer(tmp_path, password="one") as first,
        RedisServer(tmp_path, password="one", replica_of=first) as second,
        FaultProxy(first.port) as proxy,
    ):
        second.wait_until_synced()
        link = RedisLink(parse_address(first.url_at(proxy.port)), "t:", "one", pace=PACE)
        link.start()
        assert link.call(COUNT, ["n"], []) == 1
        second.promote()
        first.follow(second)
        until(lambda: not link.is_up)
        with pytest.raises(StoreUnavailable):
            link.call(COUNT, ["n"], [])
        proxy.lead_to(second.port)
        until(lambda: link.is_up)
        assert link.call(COUNT, ["n"], []) == 2
        link.stop()


def test_it_starts_while_redis_is_away_and_comes_up_later(
    connect: Connect, proxy: FaultProxy
) -> None:
    proxy.refuse()
    link = connect()
    assert not link.is_up
    proxy.heal()
    until(lambda: link.is_up)


def test_a_user_that_may_not_do_more_than_its_prefix_is_enough(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add_user("fleet", "hidden-word", "~fleet:*", "+@all", "-@admin")
    url = f"redis://fleet:hidden-word@127.0.0.1:{server.port}"
    link = RedisLink(parse_address(url), "fleet:", "one", pace=PACE)
    link.start()
    assert link.call(COUNT, ["n"], []) == 1
    link.stop()
    elsewhere = RedisLink(parse_address(url), "other:", "one", pace=PACE)
    elsewhere.start()
    assert not elsewhere.is_up
    elsewhere.stop()


def test_credentials_are_in_no_log_no_error_and_no_repr(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://somebody:hidden-word@127.0.0.1:{server.port}"
    with structlog.testing.capture_logs() as lines:
        link = RedisLink(parse_address(url), "t:", "one", pace=PACE)
        link.start()
        link.stop()
    with pytest.raises(StoreUnavailable) as caught:
        link.call(ECHO, ["a"], [])
    said = f"{lines} {caught.value!r} {caught.value.__cause__!r} {link!r} {link.status!r}"
    assert "redis_down" in said
    assert "Authentication" in said
    assert "hidden-word" not in said
    assert "somebody" not in said


def test_tls_is_spoken_with_whom_the_certificate_names(server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with FaultProxy(server.port, tls=context) as proxy:
        url = server.url_at(proxy.port, "rediss")
        link = RedisLink(parse_address(f"{url}?ssl_ca_certs={trusted}"), "tls:", "one", pace=PACE)
        link.start()

        async def main() -> list[str]:
            try:
                return await link.acall(ECHO, ["a"], ["x"])
            finally:
                await link.aclose()

        assert asyncio.run(main()) == link.call(ECHO, ["a"], ["x"]) == ["tls:a", "x"]
        link.stop()
        for wrong in (url, server.url_at(proxy.port)):
            stranger = RedisLink(parse_address(wrong), "tls:", "one", pace=PACE)
            stranger.start()
            assert not stranger.is_up
            stranger.stop()
