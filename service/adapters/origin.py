"""Where the content of a version was fetched from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    source: str
    """As it was asked for, without what may be a secret: the query of a URL."""
    revision: str
    """What the source calls the state that was fetched: a commit, an ETag; empty = nothing."""
    fetched_at: int
    """Unix seconds."""
