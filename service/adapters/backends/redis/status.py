"""How patient the link is, and how it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkPace:
    """Seconds."""

    timeout_s: float = 0.3
    """Of a call, its connection included; slower counts as away."""
    bulk_timeout_s: float = 10.0
    """Of calls that move many records, in threads."""
    heartbeat_s: float = 2.0
    alive_s: float = 10.0
    """How long a replica without a heartbeat counts as alive."""
    min_backoff_s: float = 0.05
    max_backoff_s: float = 2.0
    settle_s: float = 5.0
    """Within which every replica has seen that Redis is back, and told it what it knows."""
    stable_s: float = 5.0
    """A link that breaks sooner is tried less and less often."""

    def backoff_s(self, attempts: int) -> float:
        """The longest pause after so many failures."""
        return min(self.max_backoff_s, self.min_backoff_s * 2.0 ** min(attempts, 16))


@dataclass(frozen=True, slots=True)
class LinkStatus:
    is_up: bool = False
    epoch: str = ""
    """Another than before: Redis was empty, and everybody fills in what they know."""
    num_replicas: int = 1
    """Alive when that was last known, this one included."""
    num_ups: int = 0
    """How often the link came up; more than before: something may have been missed."""
    num_errors: int = 0
    since: float = 0.0
    """Monotonic seconds of the last change between up and down."""
    gap_at: float | None = None
    """Monotonic seconds when it last came back after a while, or empty: what the others know may
    not be there yet."""
