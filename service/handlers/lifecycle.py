"""Whether the process takes requests, and how many it still answers. Event loop only."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from service.errors import Draining


class LifecycleState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    """No longer ready, but a balancer has yet to notice: what still comes is served."""
    DRAINING = "draining"


class Lifecycle:
    """Starting → ready → leaving → draining, never back."""

    def __init__(self) -> None:
        self._state = LifecycleState.STARTING
        self._num_requests = 0

    @property
    def state(self) -> LifecycleState:
        return self._state

    @property
    def num_requests(self) -> int:
        """Admitted requests whose answer is not complete."""
        return self._num_requests

    def mark_ready(self) -> None:
        if self._state is LifecycleState.STARTING:
            self._state = LifecycleState.READY

    def start_leaving(self) -> None:
        """Safe to call from a signal handler, and more than once."""
        if self._state is not LifecycleState.DRAINING:
            self._state = LifecycleState.LEAVING

    def start_draining(self) -> None:
        """Safe to call more than once."""
        self._state = LifecycleState.DRAINING

    @property
    def is_ending(self) -> bool:
        """Whoever asks should not count on asking again."""
        return self._state in (LifecycleState.LEAVING, LifecycleState.DRAINING)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts one request until its answer is complete. Raises `Draining` when too late."""
        if self._state is LifecycleState.DRAINING:
            raise Draining("The server is shutting down; ask another replica, or again soon.")
        self._num_requests += 1
        try:
            yield
        finally:
            self._num_requests -= 1
