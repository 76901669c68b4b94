"""What one rendering of a template that a client uploaded may take."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RenderLimits:
    seconds: float = 5.0
    """Wall clock; a worker that is not done by then is killed."""
    cpu_seconds: int = 2
    memory_bytes: int = 256 << 20
    """Private memory of a worker."""
    max_chars: int = 1 << 20
    """Of the rendered text, all of which is split into tokens afterwards."""
    num_workers: int = 3
    """One owner has all but one of them at most."""
    max_waiting: int = 64
    """Requests that wait for the same template's turn, and templates for the same owner's."""


_CHARS_PER_TOKEN = 16
"""No text that fits a context is longer on average."""


def limits_for(max_model_len: int) -> RenderLimits:
    limits = RenderLimits()
    return replace(limits, max_chars=max(limits.max_chars, max_model_len * _CHARS_PER_TOKEN))
