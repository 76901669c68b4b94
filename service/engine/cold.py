"""Sequences that wait outside the batch for their adapter: one load per version."""

from collections import OrderedDict

from service.core import AdapterRef
from service.engine.sequence import Sequence, SequenceStatus


class ColdQueue:
    """Pure bookkeeping. Loads start in order of arrival, as far as host memory has room."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, list[Sequence]] = OrderedDict()
        self._loading: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._by_digest.values()))

    def add(self, sequence: Sequence) -> None:
        assert sequence.adapter is not None
        sequence.status = SequenceStatus.COLD
        self._by_digest.setdefault(sequence.adapter.digest, []).append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """A load that has started goes on: the next request will want it."""
        assert sequence.adapter is not None
        digest = sequence.adapter.digest
        self._by_digest[digest].remove(sequence)
        if not self._by_digest[digest]:
            del self._by_digest[digest]

    def not_loading(self) -> list[AdapterRef]:
        """Versions somebody waits for that nobody loads yet, first come first."""
        heads = (sequences[0].adapter for sequences in self._by_digest.values())
        return [ref for ref in heads if ref is not None and ref.digest not in self._loading]

    def is_loading(self, digest: str) -> bool:
        return digest in self._loading

    def start(self, digest: str) -> None:
        self._loading.add(digest)

    def finish(self, digest: str) -> list[Sequence]:
        """The load has ended; the sequences that waited for it."""
        self._loading.discard(digest)
        return self._by_digest.pop(digest, [])

    def expired(self, now: float) -> list[Sequence]:
        return [
            sequence
            for sequences in self._by_digest.values()
            for sequence in sequences
            if sequence.deadline <= now
        ]

    def next_deadline(self) -> float | None:
        deadlines = [one.deadline for many in self._by_digest.values() for one in many]
        return min(deadlines, default=None)
