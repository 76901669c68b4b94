"""Where an alias leads: to one version, or to some by weight."""

import math
from hashlib import sha256

Shares = tuple[tuple[int, int], ...]
"""(version number, weight) in the order of the numbers; every weight is at least 1."""


def pick(shares: Shares, key: str) -> int:
    """The version of whoever has this key, each with probability weight / sum of weights.

    Weighted rendezvous hashing: of the draws -ln(u)/weight, u uniform in (0, 1) by the hash of key
    and version, the smallest wins. When weights change, only those keys move that must.
    """
    if len(shares) == 1:
        return shares[0][0]
    return min(shares, key=lambda share: -math.log(_uniform(key, share[0])) / share[1])[0]


def largest(shares: Shares) -> int:
    """The version with the most weight, the older one of equals."""
    return max(shares, key=lambda share: (share[1], -share[0]))[0]


def _uniform(key: str, number: int) -> float:
    """In (0, 1); the key comes last, so that no key can look like another version's."""
    digest = sha256(f"{number}\n{key}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) + 0.5) / 2.0**64
