"""What is known here of every name: the state of each, and what all of them together have.

Nothing is changed in place, but replaced: a look from any thread sees the state before a change or
the one after it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from service.adapters.history import NameHistory
from service.adapters.journal import below
from service.tenancy import qualified, tenant_of


class KnownNames:
    def __init__(self) -> None:
        self._histories: Mapping[str, NameHistory] = {}
        self._usable: Mapping[str, Sequence[str]] = {}
        """Names with versions by tenant, sorted: a page of them costs no look at all the others."""

    def history(self, name: str) -> NameHistory:
        return self._histories.get(name) or NameHistory()

    def lengths(self) -> dict[str, int]:
        """Records of each name that are known here, by the names of the logs below `journal/`."""
        return {below(name): one.num_operations for name, one in self._histories.items()}

    def names(self) -> list[str]:
        """Names that can be served, sorted."""
        return sorted(name for name, history in self._histories.items() if history.versions)

    def names_of(self, tenant: str, after: str | None = None) -> Iterator[str]:
        """Of one tenant those that can be served, sorted; behind this bare name."""
        names = self._usable.get(tenant, ())
        start = 0 if after is None else bisect_right(names, qualified(tenant, after))
        return map(names.__getitem__, range(start, len(names)))

    def names_with_deleted(self) -> list[str]:
        """Names that have deleted versions or are deleted as a whole, sorted."""
        return sorted(name for name, history in self._histories.items() if history.deleted)

    def owns(self, tenant: str, *, with_deleted: bool) -> bool:
        """Whether it has adapters, or such as were deleted and can come back."""
        return any(h.versions or (with_deleted and h.deleted) for _, h in self._of(tenant))

    def num_adapters(self, tenant: str) -> int:
        """Names of the tenant that lead to a version."""
        return len(self._usable.get(tenant, ()))

    def is_live(self, digest: str, tenant: str | None = None) -> bool:
        """Whether some version has this content that is not deleted; of one tenant, or of any."""
        return digest in self.live_digests(tenant)

    def live_digests(self, tenant: str | None = None) -> set[str]:
        return {
            version.digest
            for _, history in self._of(tenant)
            for version in history.versions.values()
        }

    def kept_digests(
        self, tenant: str | None = None, given_up: Mapping[str, Collection[int]] | None = None
    ) -> set[str]:
        """Content of versions, deleted ones included but for the numbers `given_up` by name; of one
        tenant, or of all."""
        gone = given_up or {}
        kept = (history.kept_digests(gone.get(name, ())) for name, history in self._of(tenant))
        return set[str]().union(*kept)

    def known_digests(self) -> set[str]:
        """Of everything that was ever a version here."""
        return set[str]().union(*(history.digests for history in self._histories.values()))

    def _know(self, changed: Mapping[str, NameHistory]) -> None:
        """These names are so from now on. Costs little more than has changed."""
        before = self._histories
        come, gone = defaultdict[str, list[str]](list), defaultdict[str, set[str]](set)
        for name, history in changed.items():
            known = before.get(name)
            if (known is not None and bool(known.versions)) != bool(history.versions):
                if history.versions:
                    come[tenant_of(name)].append(name)
                else:
                    gone[tenant_of(name)].add(name)
        moved = {
            tenant: sorted([*self._without(tenant, gone[tenant]), *come[tenant]])
            for tenant in come.keys() | gone.keys()
        }
        self._histories = {**before, **changed}
        self._usable = {**self._usable, **moved}

    def _without(self, tenant: str, gone: Collection[str]) -> Iterator[str]:
        return (name for name in self._usable.get(tenant, ()) if name not in gone)

    def _of(self, tenant: str | None) -> Iterator[tuple[str, NameHistory]]:
        """Of every name of one tenant, or of all."""
        for name, history in self._histories.items():
            if tenant is None or tenant_of(name) == tenant:
                yield name, history
