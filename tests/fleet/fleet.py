"""Two replicas, one store, a Redis and a balancer, all on loopback ports in one folder."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.fleet.load import new_client
from tests.fleet.processes import Replica
from tests.fleet.stores import FleetStore
from tests.haproxy import CONFIG, Balancer
from tests.redis_server import RedisServer

OPERATOR = "fleet-operator"
NAMES = ("replica-1", "replica-2")
"""As the balancer calls them."""

_AWARE, _BLIND = "    balance hash var(txn.adapter)\n", "    balance roundrobin\n"
_BIND = '    bind "${BALANCER_BIND}"\n'
_LOGGED = {
    "raw local0 notice\n": "raw local0 info\n",
    _BIND: f"{_BIND}    http-request capture req.hdr(x-request-id) len 64\n",
}
"""Every request, with its id."""
_LOG_LINE = re.compile(r" \S+/(?P<server>replica-\d) .* \{(?P<request_id>[^}]*)\} ")


@dataclass(frozen=True, slots=True)
class Fleet:
    replicas: tuple[Replica, Replica]
    redis: RedisServer
    balancer: Balancer
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient]
    """Of an operator, to each replica past the balancer."""
    operator: httpx.AsyncClient
    """The same, to the balancer."""
    store: FleetStore
    work: Path

    async def wait_until_up(self, *names: str) -> None:
        """As the balancer sees it: these take requests, and no others."""
        async with asyncio.timeout(60):
            while True:
                if await asyncio.to_thread(self.balancer.up) == set(names):
                    return
                await asyncio.sleep(0.05)

    def served_by(self) -> dict[str, str]:
        """By request id, who was last asked for an answer. Where a replica ends before it answers
        a request that is not the first on its client's connection, HAProxy closes that without a
        word, and writes none: see `is_finished`."""
        lines = self.balancer.log.splitlines()
        found = (match for line in lines if (match := _LOG_LINE.search(line)))
        return {match["request_id"]: match["server"] for match in found}

    def is_finished(self, request_id: str) -> bool:
        """Whether some replica has come to its end: one that is killed never does."""
        return any(request_id in replica.log for replica in self.replicas)

    @contextmanager
    def blind_balancer(self) -> Iterator[Balancer]:
        """A second one before the same replicas, which goes round all of them in turn."""
        config = _config(self.work / "round-robin.cfg", {**_LOGGED, _AWARE: _BLIND})
        with _balancer(self.replicas, config, "1s") as balancer:
            yield balancer


@asynccontextmanager
async def running_fleet(
    work: Path,
    make_store: Callable[[Path], AbstractContextManager[FleetStore]],
    settings: Mapping[str, object],
    checks: str,
) -> AsyncIterator[Fleet]:
    """Whatever happens within, nothing of it runs afterwards. `checks`: how often the balancer asks
    a replica whether it is ready."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(work))
        store = stack.enter_context(make_store(work))
        shared = {"redis_url": redis.url, **store.settings}
        first, second = (
            Replica(name, work / name, {"api_key": OPERATOR, **shared, **settings})
            for name in NAMES
        )
        for replica in (first, second):
            stack.callback(replica.kill)
            replica.start()
        config = _config(work / "haproxy.cfg", _LOGGED)
        balancer = stack.enter_context(_balancer((first, second), config, checks))
        for replica in (first, second):
            await replica.started()
        clients = [
            await stack.enter_async_context(new_client(url, OPERATOR))
            for url in (first.url, second.url, balancer.url)
        ]
        pair, operator = (clients[0], clients[1]), clients[2]
        fleet = Fleet((first, second), redis, balancer, pair, operator, store, work)
        await fleet.wait_until_up(*NAMES)
        await store.fill(pair)
        yield fleet


def _balancer(replicas: tuple[Replica, Replica], config: Path, checks: str) -> Balancer:
    addresses = [f"127.0.0.1:{one.port}" for one in replicas]
    log = config.with_suffix(".log")
    return Balancer(addresses, log, config=config, CHECK_INTERVAL=checks)


def _config(path: Path, changes: Mapping[str, str]) -> Path:
    """The balancer's own file, but for `changes`."""
    text = CONFIG.read_text()
    for old, new in changes.items():
        assert old in text, f"{CONFIG} has no {old!r} any more"
        text = text.replace(old, new)
    path.write_text(text)
    return path
