"""Times the parts of a request's work where they are done, for whoever measures the request.

A context variable carries the list, so that use cases need not hand it on and work outside of any
request costs nothing more than a look.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.core import Phase

_phases: ContextVar[list[Phase] | None] = ContextVar("phases", default=None)


def collect_phases(into: list[Phase]) -> None:
    """From now on, in this task and in those that it starts."""
    _phases.set(into)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Counts also when it fails: that too took its time."""
    phases = _phases.get()
    start = time.monotonic()
    try:
        yield
    finally:
        if phases is not None:
            phases.append(Phase(name, start, time.monotonic()))
