"""The short form of `make fleet`: under load one replica is killed, Redis comes back empty, the
other replica is restarted, and nothing is lost but what was under way on the killed one."""

import asyncio

from tests.fleet.run import SHORT, run
from tests.haproxy import needs_haproxy
from tests.redis_server import needs_redis


@needs_haproxy
@needs_redis
def test_a_fleet_loses_nothing_but_what_was_under_way_on_the_killed_replica() -> None:
    report = asyncio.run(run(SHORT))
    assert report.failures() == [], report.table()
    assert report.kills
    assert report.arrivals
    assert report.counts["raced"]
