"""Frees what nothing points to: versions past their grace, their originals, their compiled forms.

Blocking. Whoever calls it sees to it that nothing else of this process changes the store meanwhile;
other processes may. A version is given up in its journal first, so that a crash at any moment
leaves it recoverable or gone.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from service.adapters.deletions import expired, purge_for
from service.adapters.forms import FORM_NAME, Forms
from service.adapters.naming import written_digest
from service.adapters.store import AdapterStore

GRACE_S = 3600.0
"""In a shared store what nobody refers to may be somebody's who is publishing it, and what was
given up a request's that another replica has just begun. So long both stay, which is also longer
than clocks may differ."""


@dataclass(frozen=True, slots=True)
class FreedVersion:
    name: str
    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Freed:
    versions: tuple[FreedVersion, ...] = ()
    """Given up for good."""
    num_objects: int = 0
    object_bytes: int = 0
    num_forms: int = 0
    """Contents whose compiled forms went."""
    form_bytes: int = 0

    @property
    def is_nothing(self) -> bool:
        return not (self.versions or self.num_objects or self.num_forms)

    def body(self, *, is_dry_run: bool) -> dict[str, Any]:
        """As JSON says it, over HTTP and on the command line."""
        return {
            "dry_run": is_dry_run,
            "versions": [
                {"name": one.name, "version": one.number, "digest": written_digest(one.digest)}
                for one in self.versions
            ],
            "contents": self.num_objects,
            "content_bytes": self.object_bytes,
            "compiled": self.num_forms,
            "compiled_bytes": self.form_bytes,
        }


class Collector:
    def __init__(self, store: AdapterStore, forms: Forms, retention_s: float) -> None:
        """`retention_s` is how long deleted versions stay at least."""
        self._store = store
        self._forms = forms
        self._grace_s = GRACE_S if store.is_shared else 0.0
        self._retention_s = max(retention_s, self._grace_s)

    @property
    def frees_at_once(self) -> bool:
        """Whether what is deleted is over as soon as nothing here uses it."""
        return self._retention_s == 0

    def has_expired(self, now: float) -> bool:
        """Whether a collection might free anything; looks at no disk."""
        return next(self._expired(now, set()), None) is not None

    def collect(
        self, now: float, in_use: Collection[str] = (), *, is_dry_run: bool = False
    ) -> Freed:
        """`in_use` are digests that requests or uploads hold; their content stays."""
        if self._store.is_shared and not is_dry_run:
            self._store.settle_removed(now - self._grace_s)
        busy = set(in_use)
        versions = tuple(self._expired(now, busy - self._store.live_digests()))
        given_up: dict[str, list[int]] = {}
        for version in versions:
            given_up.setdefault(version.name, []).append(version.number)
        kept = self._store.kept_digests(given_up=given_up) | busy
        objects = {
            digest: one.num_bytes
            for digest, one in self._store.stored_objects().items()
            if digest not in kept and one.written_at <= now - self._grace_s
        }
        sizes = self._forms.bytes_by_digest()
        # A cache folder may be shared: what this store never had is not its to judge.
        forms = [one for one in sizes if one in self._store.known_digests() - kept]
        shared = self._shared_forms(kept, now)
        freed = Freed(
            versions,
            len(objects),
            sum(objects.values()),
            len({*forms, *map(_digest_of, shared)}),
            sum(sizes[digest] for digest in forms) + sum(shared.values()),
        )
        if not is_dry_run:
            self._drop_forms(forms, shared)
            self._free(given_up, list(objects), int(now))
        return freed

    def _shared_forms(self, kept: Collection[str], now: float) -> dict[str, int]:
        """Bytes by file name of those that the store has and nothing needs. What is young may be
        somebody's who is about to publish it."""
        forms = self._store.forms
        return {
            name: one.num_bytes
            for name, one in (forms.listing() if forms else {}).items()
            if _digest_of(name) not in kept and one.written_at <= now - self._grace_s
        }

    def _expired(self, now: float, busy: set[str]) -> Iterator[FreedVersion]:
        for name in self._store.names_with_deleted():
            gone = expired(self._store.history(name), now, self._retention_s)
            for number, one in sorted(gone.items()):
                if one.version.digest not in busy:
                    yield FreedVersion(name, number, one.version.digest)

    def _drop_forms(self, digests: Iterable[str], shared: Iterable[str]) -> None:
        """Before anything is recorded, which needs room on a disk that may be full."""
        for digest in digests:
            self._forms.drop(digest)
        for name in shared:
            assert self._store.forms is not None
            self._store.forms.drop(name)

    def _free(self, given_up: dict[str, list[int]], objects: list[str], now: int) -> None:
        for name, numbers in given_up.items():
            self._give_up(name, numbers, now)
        self._store.remove_unreferenced(objects)

    def _give_up(self, name: str, numbers: list[int], now: int) -> None:
        self._store.change(name, lambda history: purge_for(history, numbers, now))


def _digest_of(form: str) -> str:
    match = FORM_NAME.fullmatch(form)
    assert match is not None, "listings have forms alone"
    return match[1]
