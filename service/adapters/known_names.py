"""What is known here of every name: the state of each, and what all of them together have.

Nothing is changed in place, but replaced: a look from any thread sees the state before a change or
the one after it.
"""

from collections.abc import Collection, Iterator, Mapping

from service.adapters.history import NameHistory
from service.adapters.journal import below
from service.tenancy import tenant_of


class KnownNames:
    def __init__(self) -> None:
        self._histories: Mapping[str, NameHistory] = {}

    def history(self, name: str) -> NameHistory:
        return self._histories.get(name) or NameHistory()

    def lengths(self) -> dict[str, int]:
        """Records of each name that are known here, by the names of the logs below `journal/`."""
        return {below(name): one.num_operations for name, one in self._histories.items()}

    def names(self) -> list[str]:
        """Names that can be served, sorted."""
        return sorted(name for name, history in self._histories.items() if history.versions)

    def names_with_deleted(self) -> list[str]:
        """Names that have deleted versions or are deleted as a whole, sorted."""
        return sorted(name for name, history in self._histories.items() if history.deleted)

    def owns(self, tenant: str, *, with_deleted: bool) -> bool:
        """Whether it has adapters, or such as were deleted and can come back."""
        return any(h.versions or (with_deleted and h.deleted) for _, h in self._of(tenant))

    def num_adapters(self, tenant: str) -> int:
        """Names of the tenant that lead to a version."""
        return sum(bool(history.versions) for _, history in self._of(tenant))

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

    def _of(self, tenant: str | None) -> Iterator[tuple[str, NameHistory]]:
        """Of every name of one tenant, or of all."""
        for name, history in self._histories.items():
            if tenant is None or tenant_of(name) == tenant:
                yield name, history
