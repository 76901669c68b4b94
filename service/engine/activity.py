"""Who has sequences in the engine: counted where they stand, shown as of the latest settled state.

Between two steps only what has changed costs anything, however many wait or are registered.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from service.engine.sequence import Sequence


class Use(NamedTuple):
    """Whose sequences, of what."""

    tenant: str
    """Whom they are computed for."""
    name: str
    """Qualified, of the adapter; empty for the base and for weighted sums, whose `model` it is."""
    version: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Sequences by use; nobody has a zero."""

    running: Mapping[Use, int] = field(default_factory=dict)
    """In the batch."""
    waiting: Mapping[Use, int] = field(default_factory=dict)
    """Their adapter is in memory, or they are the base's."""
    cold: Mapping[Use, int] = field(default_factory=dict)
    """Waiting for their adapter; a wish to warm one counts like a request."""


class Tally:
    """Of the sequences that stand in one place. The engine's thread alone writes it."""

    def __init__(self) -> None:
        self._changes: Counter[Use] = Counter()

    def add(self, sequence: Sequence) -> None:
        self._changes[_use_of(sequence)] += 1

    def remove(self, sequence: Sequence) -> None:
        self._changes[_use_of(sequence)] -= 1

    def take_changes(self) -> Mapping[Use, int]:
        """Since the last call."""
        if not self._changes:
            return {}
        changes, self._changes = self._changes, Counter()
        return changes


class ActivityBoard:
    """Published as a whole, so that nobody is seen in two places or in none."""

    def __init__(self, running: Tally, waiting: Tally, cold: Tally) -> None:
        self._tallies = (running, waiting, cold)
        self._counts: tuple[dict[Use, int], ...] = ({}, {}, {})
        self._lock = threading.Lock()

    def publish(self) -> None:
        changes = [tally.take_changes() for tally in self._tallies]
        if not any(changes):
            return
        with self._lock:
            for counts, changed in zip(self._counts, changes, strict=True):
                _apply(counts, changed)

    def snapshot(self) -> Activity:
        """On any thread."""
        with self._lock:
            return Activity(*map(dict, self._counts))


def _apply(counts: dict[Use, int], changes: Mapping[Use, int]) -> None:
    for use, change in changes.items():
        count = counts.get(use, 0) + change
        if count:
            counts[use] = count
        else:
            counts.pop(use, None)


def _use_of(sequence: Sequence) -> Use:
    tenant, adapter = sequence.request.tenant, sequence.adapter
    if adapter is None or adapter.parts:
        return Use(tenant, "", 0)
    return Use(tenant, adapter.name, adapter.version)
