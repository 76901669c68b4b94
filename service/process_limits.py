"""What child processes that look at a client's bytes do to themselves first."""

import os
import resource
from contextlib import suppress
from pathlib import Path

_NICENESS = 10
"""Lower, and it would take the cores of running streams; higher, and it starves beside them."""


def give_way() -> None:
    """Let the service have the processors first.

    Where Linux shares them among sessions (sched(7), autogroup), a process is nice only to those of
    its own, which is its child's: the session as a whole has to be.
    """
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    with suppress(OSError):  # no such sharing here
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


def limit(kind: int, value: int) -> None:
    """Of `resource.RLIMIT_…`, for good; never above what somebody else has set."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
