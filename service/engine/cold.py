"""Sequences that wait outside the batch for their adapter: one load per version."""

from collections import OrderedDict
from dataclasses import dataclass, field

from service.core import AdapterRef
from service.engine.sequence import Sequence, SequenceStatus
from service.engine.virtual_tokens import MAX_TENANTS, VirtualTokens


@dataclass(frozen=True, slots=True)
class Wish:
    """A version that somebody waits for and nobody loads yet."""

    ref: AdapterRef
    tenant: str
    """Who asked first: the load counts as this tenant's."""
    priority: int
    """Of the most urgent sequence that waits for it."""


@dataclass(frozen=True, slots=True)
class Load:
    """One that has begun."""

    ref: AdapterRef
    tenant: str
    """Whose it counts as, who may have left."""


@dataclass(slots=True)
class _Waiters:
    ref: AdapterRef
    tenant: str
    sequences: list[Sequence] = field(default_factory=list)

    def wish(self) -> Wish:
        priority = min(one.request.priority for one in self.sequences)
        return Wish(self.ref, self.tenant, priority)


class ColdQueue:
    """Pure bookkeeping. Between tenants the bytes that were loaded for each are kept equal."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, _Waiters] = OrderedDict()
        self._loading: dict[str, Load] = {}
        self._loaded_bytes = VirtualTokens(MAX_TENANTS)

    def __len__(self) -> int:
        return sum(len(waiters.sequences) for waiters in self._by_digest.values())

    @property
    def num_loading(self) -> int:
        return len(self._loading)

    def num_loading_for(self, tenant: str) -> int:
        return sum(one.tenant == tenant for one in self._loading.values())

    def add(self, sequence: Sequence) -> None:
        ref, tenant = sequence.adapter, sequence.request.tenant
        assert ref is not None
        sequence.status = SequenceStatus.COLD
        if ref.digest not in self._by_digest:
            self._by_digest[ref.digest] = _Waiters(ref, tenant)
            self._loaded_bytes.wait(tenant)
        self._by_digest[ref.digest].sequences.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """A load that has started goes on: the next request will want it."""
        assert sequence.adapter is not None
        digest = sequence.adapter.digest
        self._by_digest[digest].sequences.remove(sequence)
        if not self._by_digest[digest].sequences:
            self._drop(digest)

    def in_turn(self) -> list[Wish]:
        """The next load of every tenant: the more urgent first, then who has had least."""
        firsts: dict[str, Wish] = {}
        for digest, waiters in self._by_digest.items():
            if digest in self._loading:
                continue
            wish, first = waiters.wish(), firsts.get(waiters.tenant)
            if first is None or wish.priority < first.priority:
                firsts[wish.tenant] = wish
        return sorted(
            firsts.values(), key=lambda one: (one.priority, self._loaded_bytes.rank(one.tenant))
        )

    def is_loading(self, digest: str) -> bool:
        return digest in self._loading

    def load_of(self, digest: str) -> Load | None:
        return self._loading.get(digest)

    def start(self, ref: AdapterRef, tenant: str) -> None:
        self._loading[ref.digest] = Load(ref, tenant)
        self._loaded_bytes.charge(tenant, ref.compiled_bytes)

    def finish(self, digest: str) -> list[Sequence]:
        """The load has ended; the sequences that waited for it."""
        self._loading.pop(digest, None)
        return self._drop(digest) if digest in self._by_digest else []

    def sequences(self) -> list[Sequence]:
        return [one for waiters in self._by_digest.values() for one in waiters.sequences]

    def expired(self, now: float) -> list[Sequence]:
        return [one for one in self.sequences() if one.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((one.deadline for one in self.sequences()), default=None)

    def _drop(self, digest: str) -> list[Sequence]:
        waiters = self._by_digest.pop(digest)
        self._loaded_bytes.leave(waiters.tenant)
        return waiters.sequences
