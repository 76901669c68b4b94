"""What a child process does to itself before it looks at anything a client sent."""

import os
import resource
import signal
import threading
import time

from service.adapters.limits import AdapterLimits
from service.process_limits import give_way, limit

_PARENT_POLL_SECONDS = 0.2


def confine(limits: AdapterLimits, parent: int, *, data_bytes: int = 0) -> None:
    """`data_bytes`: what this process has already, which the limit is to come on top of.

    A base that is mapped read-only does not count as data.
    """
    seconds = int(limits.compile_timeout_s) + 1
    limit(resource.RLIMIT_DATA, data_bytes + limits.compile_memory_bytes)
    limit(resource.RLIMIT_CPU, seconds)
    limit(resource.RLIMIT_FSIZE, limits.max_unpacked_bytes)
    limit(resource.RLIMIT_CORE, 0)
    signal.alarm(seconds)
    give_way()
    exit_with(parent)


def exit_with(parent: int) -> None:
    """A server that was killed must not leave a child behind that still writes."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)
