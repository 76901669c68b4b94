"""What one rendering of a template that a client uploaded may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenderLimits:
    seconds: float = 5.0
    """Wall clock; a worker that is not done by then is killed."""
    cpu_seconds: int = 2
    memory_bytes: int = 256 << 20
    """Private memory of a worker."""
    max_chars: int = 8 << 20
    """Of the rendered text."""
    num_workers: int = 2
    max_waiting: int = 64
    """Requests that wait for the same template's turn."""
