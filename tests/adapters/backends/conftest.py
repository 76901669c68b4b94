"""One redis-server for a file of tests, and links whose keys no other test has; stores of two."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.status import LinkPace
from service.adapters.backends.store_backends import StoreBackends
from tests.adapters.places import Place
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer

PACE = LinkPace(heartbeat_s=0.1, min_backoff_s=0.01, max_backoff_s=0.05)
_PREFIXES = itertools.count()

Connect = Callable[..., RedisLink]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), password="secret") as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(server: RedisServer, proxy: FaultProxy) -> Iterator[Connect]:
    """`connect("one")` is a started link of that replica by way of the proxy."""
    prefix, links = f"t{next(_PREFIXES)}:", []

    def start(replica: str = "one", *, port: int = 0, pace: LinkPace = PACE, **more) -> RedisLink:
        address = parse_address(server.url_at(port or proxy.port))
        link = RedisLink(address, prefix, replica, pace=pace, **more)
        links.append(link)
        link.start()
        return link

    yield start
    for link in links:
        link.stop()


@pytest.fixture
def pair(place: Place) -> Iterator[tuple[StoreBackends, StoreBackends]]:
    """Of two processes."""
    both = (place.backends("x"), place.backends("y"))
    for backends in both:
        backends.hold.open(is_tidied=True)
    yield both
    for backends in both:
        backends.hold.close()
