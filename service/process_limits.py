"""What child processes that look at a client's bytes do to themselves first."""

import resource

NICENESS = 10
"""Lower, and it would take the cores of running streams; higher, and it starves beside them."""


def limit(kind: int, value: int) -> None:
    """Of `resource.RLIMIT_…`, for good; never above what somebody else has set."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
