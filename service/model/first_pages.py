"""Memory for keys and values before they come.

A system provides a page when it is written for the first time. In a step all threads write new ones
at once, and wait for each other: a prompt of a fresh server took a sixth longer.
"""

import os
import sys
import threading
from collections.abc import Iterator

from service.model.kv_store import KVStore
from service.model.pages import Range, provide_pages

_MOST = 1 << 30
"""Bytes; beyond it memory is taken only where it is needed."""
_NICENESS = 19


def provide_first_pages(store: KVStore) -> None:
    """On a thread of its own, which ends by itself."""
    ranges = store.first_memory(_MOST)
    threading.Thread(target=_provide, args=(ranges,), name="first-pages", daemon=True).start()


def _provide(ranges: Iterator[Range]) -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    for memory in ranges:
        provide_pages(memory)
