"""When a call is sent again: decided without a clock, from what was answered."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.client.errors import seconds_of

_PASSING = frozenset({429, 503})
"""The server did nothing and says when it will: a quota, a full queue, a shutdown."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    num_attempts: int = 3
    """With the first one; 1 = never again."""
    max_wait_s: float = 30.0
    """A longer `Retry-After` is left to the caller."""

    def wait_s(
        self, status: int, headers: Mapping[str, str], attempt: int, *, is_repeatable: bool
    ) -> float | None:
        """Seconds until the next attempt; None = the answer stands. `attempt` counts from 1.

        An answer without `Retry-After` may be a proxy's, after the server has done its work.
        """
        if status not in _PASSING or not is_repeatable or attempt >= self.num_attempts:
            return None
        if headers.get("x-should-retry", "").lower() == "false":
            return None
        wait = seconds_of(headers.get("retry-after"))
        return None if wait is None or wait > self.max_wait_s else wait
