"""What a child process does to itself before it looks at anything a client sent."""

import os
import resource
import signal
import threading
import time

from service.adapters.limits import AdapterLimits

_NICENESS = 10
_PARENT_POLL_SECONDS = 0.2


def confine(limits: AdapterLimits, parent: int) -> None:
    """The mapped base is file-backed and read-only, so it does not count as data."""
    seconds = int(limits.compile_timeout_s) + 1
    _limit(resource.RLIMIT_DATA, limits.compile_memory_bytes)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_FSIZE, limits.max_unpacked_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    signal.alarm(seconds)
    os.nice(_NICENESS)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _exit_with(parent: int) -> None:
    """A server that was killed must not leave a child behind that still writes."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)
