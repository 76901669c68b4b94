"""Consistent hashing as HAProxy does it: so many points for each server on a circle of 32 bits; a
key belongs to the nearest point, and goes on from there where that one is full."""

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

NODES = 16
"""Points of a server of HAProxy's default weight, 1; weight 10 is ten times as many."""
_CIRCLE = 1 << 32


class Ring:
    def __init__(self, servers: Iterable[int], num_nodes: int = NODES, salt: int = 0) -> None:
        """`salt`: another ring of the same shape."""
        points = sorted(
            (_hash(f"{salt} {server} {node}"), server)
            for server in servers
            for node in range(num_nodes)
        )
        self._keys = [key for key, _ in points]
        self._servers = [server for _, server in points]
        self._num_servers = len(set(self._servers))
        self._orders: dict[str, tuple[int, ...]] = {}

    def order(self, key: str) -> tuple[int, ...]:
        """All servers, the key's own first, then those who help out."""
        found = self._orders.get(key)
        if found is None:
            found = self._orders[key] = tuple(self._walk(self._nearest(_hash(key))))
        return found

    def _walk(self, point: int) -> Iterable[int]:
        seen: dict[int, None] = {}
        while len(seen) < self._num_servers:
            seen[self._servers[point % len(self._servers)]] = None
            point += 1
        return seen

    def _nearest(self, key: int) -> int:
        after = bisect_left(self._keys, key) % len(self._keys)
        before = after - 1
        distance_before = (key - self._keys[before]) % _CIRCLE
        distance_after = (self._keys[after] - key) % _CIRCLE
        return before if distance_before <= distance_after else after


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())
