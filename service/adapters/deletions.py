"""What deleting, restoring and giving up means for a name's history, and for how long. Pure."""

from collections.abc import Callable, Collection

from service.adapters.history import Deleted, NameHistory
from service.adapters.naming import Selector, written_digest
from service.adapters.operations import Delete, DeleteVersion, Publish, Purge, Restore
from service.errors import AdapterNotFound, NameConflict, VersionInUse
from service.tenancy import bare_name

HasContent = Callable[[str], bool]
"""Whether the store still has the content of a digest, undamaged."""


def recoverable_until(deleted_at: int, retention_s: float) -> int:
    """Unix seconds; from then on it is gone."""
    return int(deleted_at + retention_s)


def recoverable(history: NameHistory, now: float, retention_s: float) -> dict[int, Deleted]:
    """Deleted versions that may still come back, in the order of their numbers."""
    return {
        number: one
        for number, one in sorted(history.deleted.items())
        if now < recoverable_until(one.deleted_at, retention_s)
    }


def is_restorable(history: NameHistory, recoverable: Collection[int]) -> bool:
    """Whether the whole name can come back."""
    return history.grave is not None and history.grave.numbers <= set(recoverable)


def expired(history: NameHistory, now: float, retention_s: float) -> dict[int, Deleted]:
    kept = recoverable(history, now, retention_s)
    return {number: one for number, one in history.deleted.items() if number not in kept}


def delete_for(name: str, history: NameHistory, created_at: int) -> Delete:
    if not history.versions:
        raise AdapterNotFound(name)
    return Delete(created_at)


def delete_version_for(
    name: str, history: NameHistory, wanted: Selector, created_at: int
) -> DeleteVersion:
    """`wanted` says a number or a digest. Raises `AdapterNotFound` or `VersionInUse`."""
    version = _version_of(name, history, wanted)
    if pointers := pointers_to(history, version.number):
        raise VersionInUse(f"{bare_name(name)}@{version.number}", pointers)
    return DeleteVersion(version.number, created_at)


def pointers_to(history: NameHistory, number: int) -> tuple[str, ...]:
    """As a PATCH names them."""
    current = ("current",) if history.current == number else ()
    aliases = (
        f"aliases.{alias}"
        for alias, shares in sorted(history.aliases.items())
        if any(one == number for one, _ in shares)
    )
    return (*current, *aliases)


def restore_for(
    name: str,
    history: NameHistory,
    number: int | None,
    recoverable: Collection[int],
    has_content: HasContent,
    created_at: int,
) -> Restore:
    """None as `number` is the whole name. Raises `AdapterNotFound` or `NameConflict`."""
    if number is None:
        numbers = _numbers_of_name(name, history, recoverable)
    else:
        _check_version(name, history, number, recoverable)
        numbers = [number]
    for one in numbers:
        if not has_content(history.deleted[one].version.digest):
            raise NameConflict(f"The stored content of {bare_name(name)}@{one} is damaged or gone.")
    return Restore(created_at, number)


def purge_for(history: NameHistory, numbers: Collection[int], created_at: int) -> Purge | None:
    """What another writer has restored or given up meanwhile is left alone."""
    left = tuple(sorted(set(numbers) & history.deleted.keys()))
    return Purge(left, created_at) if left else None


def _version_of(name: str, history: NameHistory, wanted: Selector) -> Publish:
    suffix: int | str | None = wanted.number
    if wanted.digest_prefix is not None:
        suffix = written_digest(wanted.digest_prefix)
        found = [v for v in history.versions.values() if v.digest.startswith(wanted.digest_prefix)]
    else:
        found = [v for number, v in history.versions.items() if number == wanted.number]
    if len(found) != 1:
        raise AdapterNotFound(f"{name}@{suffix}")
    return found[0]


def _numbers_of_name(
    name: str, history: NameHistory, recoverable: Collection[int]
) -> Collection[int]:
    if history.versions:
        raise NameConflict(
            f"{bare_name(name)!r} is not deleted; say which version is to be restored."
        )
    if history.grave is None or not is_restorable(history, recoverable):
        raise AdapterNotFound(name)
    return sorted(history.grave.numbers)


def _check_version(
    name: str, history: NameHistory, number: int, recoverable: Collection[int]
) -> None:
    shown = bare_name(name)
    if number in history.versions:
        raise NameConflict(f"{shown}@{number} is not deleted.")
    if number not in recoverable:
        raise AdapterNotFound(f"{name}@{number}")
    digest = history.deleted[number].version.digest
    for other in history.versions.values():
        if other.digest == digest:
            raise NameConflict(
                f"The content of {shown}@{number} is that of {shown}@{other.number}."
            )
