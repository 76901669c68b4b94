"""What brings adapters into memory beside the requests that use them: wishes to warm, and pins."""

from collections.abc import Iterable, Iterator

from service.adapters.residency import Residency
from service.core import AdapterRef
from service.engine.sequence import Sequence, SequenceStatus


class WarmingQueue:
    """Sequences without tokens whose adapter is in memory and that want it on the device.

    Each holds the host copy until running sequences leave room on the device, or its deadline.
    """

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._waiting: list[Sequence] = []

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def add(self, sequence: Sequence) -> None:
        sequence.status = SequenceStatus.WARMING
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        sequence.status = SequenceStatus.FINISHED
        sequence.release_host(self._residency)

    def take_done(self) -> list[Sequence]:
        """Those whose adapter is where they want it; places on the device what fits there now."""
        done = [one for one in self._waiting if self._is_there(one)]
        for sequence in done:
            self.remove(sequence)
        return done

    def expired(self, now: float) -> list[Sequence]:
        return [one for one in self._waiting if one.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((one.deadline for one in self._waiting), default=None)

    def _is_there(self, sequence: Sequence) -> bool:
        ref = sequence.adapter
        assert ref is not None
        if sequence.request.load_into == "host":
            return True
        if self._residency.try_activate(ref) is None:
            return False
        self._residency.deactivate(ref.digest)
        return True


class Pins:
    """Versions that stay in host memory, used or not: loaded like any other, never evicted."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._wanted: dict[str, AdapterRef] = {}
        self._failed: set[str] = set()
        """Loads that went wrong; not tried again for the pin's sake alone."""

    def replace(self, refs: Iterable[AdapterRef]) -> None:
        old, self._wanted = self._wanted, {ref.digest: ref for ref in refs}
        self._failed.clear()
        for digest in old.keys() - self._wanted.keys():
            self._residency.unkeep(digest)

    def keep_loaded(self) -> None:
        """Hold on to those that have come into memory."""
        for digest in self._wanted:
            self._residency.keep(digest)

    def note_failure(self, digest: str) -> None:
        self._failed.add(digest)

    def to_load(self) -> list[AdapterRef]:
        return [
            ref
            for digest, ref in self._wanted.items()
            if digest not in self._failed and not self._residency.is_kept(digest)
        ]
