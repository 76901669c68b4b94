"""Names of adapters that another replica has changed: read anew, and used from then on."""

from collections.abc import Mapping

from service.adapters.journal import FOLDER, below, name_of
from service.adapters.naming import is_valid_name
from service.adapters.store import AdapterStore
from service.handlers.changes import Changes
from service.handlers.directory import Directory
from service.tenancy import bare_name, is_valid_tenant, tenant_of


class AdapterFollowing:
    folder = FOLDER

    def __init__(self, store: AdapterStore, directory: Directory, changes: Changes) -> None:
        self._store = store
        self._directory = directory
        self._changes = changes

    def lengths(self) -> Mapping[str, int]:
        return {below(name): length for name, length in self._directory.revisions.items()}

    async def follow(self, name: str, length: int) -> None:
        await self._changes.finish(self._follow(checked(name_of(name)), length))

    async def _follow(self, name: str, length: int) -> None:
        async with self._changes.lock:
            if self._directory.revisions.get(name, 0) >= length:
                return
            await self._changes.in_thread(self._store.refresh, name)
            self._directory.register(name)


def checked(name: str) -> str:
    """What is announced becomes part of a path; raises ValueError."""
    if not (is_valid_name(bare_name(name)) and is_valid_tenant(tenant_of(name))):
        raise ValueError(f"{name!r} is no adapter's name")
    return name
