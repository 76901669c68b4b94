"""Times the parts of a request's work where they are done, for whoever measures the request.

A context variable carries the list, so that use cases need not hand it on and work outside of any
request costs nothing more than a look.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.core import Phase

_phases: ContextVar[list[Phase] | None] = ContextVar("phases", default=None)
_begun: ContextVar[Callable[[str], None] | None] = ContextVar("begun", default=None)


def collect_phases(into: list[Phase], on_begin: Callable[[str], None] | None = None) -> None:
    """From now on, in this task and in those that it starts; `on_begin` takes a phase's name."""
    _phases.set(into)
    _begun.set(on_begin)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Counts also when it fails: that too took its time."""
    phases, on_begin = _phases.get(), _begun.get()
    if on_begin is not None:
        on_begin(name)
    start = time.monotonic()
    try:
        yield
    finally:
        if phases is not None:
            phases.append(Phase(name, start, time.monotonic()))
