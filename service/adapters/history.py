"""What has become of one name: the state that the operations of its journal add up to.

Pure. Version numbers are never reused, and content once recorded is remembered beyond a delete, so
that a folder shipped with the store does not come back after somebody deleted it. What is deleted
keeps its content until a `Purge` says that it is given up.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service.adapters.operations import (
    Delete,
    DeleteVersion,
    Move,
    Operation,
    Point,
    Publish,
    Purge,
    Restore,
    Rollback,
)
from service.adapters.origin import Origin
from service.adapters.shares import Shares
from service.adapters.verdict import Verdict
from service.tenancy import Visibility, default_visibility


@dataclass(frozen=True, slots=True)
class Deleted:
    version: Publish
    deleted_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Grave:
    """What a deleted name was, beside its versions."""

    numbers: frozenset[int]
    current: int
    aliases: Mapping[str, Shares]
    trail: tuple[int, ...]
    pinned: bool = False
    expires_at: int | None = None


@dataclass(slots=True)
class NameHistory:
    """The replay of one journal; changed by `apply` alone.

    Invariants: a name with versions has a current one, and no two versions have the same content.
    """

    versions: dict[int, Publish] = field(default_factory=dict)
    """Addressable versions: those published or restored, and not deleted since."""
    current: int | None = None
    """None while the name is deleted or was never published."""
    aliases: dict[str, Shares] = field(default_factory=dict)
    trail: list[int] = field(default_factory=list)
    """Versions that were current before, the latest last: the way that rollbacks go."""
    num_operations: int = 0
    """Grows with every change and never restarts, so it tells whether anything has changed."""
    highest_number: int = 0
    digests: set[str] = field(default_factory=set)
    """Of every version ever published, deleted ones included."""
    deleted: dict[int, Deleted] = field(default_factory=dict)
    """Versions that were deleted and not given up."""
    grave: Grave | None = None
    """None unless the name is deleted."""
    visibility: Visibility | None = None
    """The name's, also over a delete, so that what comes back is no more public than it was; None
    while nobody has said."""
    pinned: bool = False
    """What it leads to stays in host memory; not over a delete."""
    expires_at: int | None = None
    """Unix seconds from which the name is gone, also before it is deleted for that."""

    def apply(self, operation: Operation) -> None:
        self.num_operations += 1
        match operation:
            case Publish(number=number, digest=digest):
                self.grave = None
                self.versions[number] = operation
                self._lead_to(number)
                self.highest_number = max(self.highest_number, number)
                self.digests.add(digest)
            case Point(number=number):
                self._lead_to(number)
            case Move(current=current, aliases=aliases):
                self._lead_to(current)
                self._set_aliases(aliases)
            case Rollback(number=number):
                while self.trail and self.trail.pop() != number:
                    pass
                self.current = number
            case Delete(created_at=created_at):
                self._bury(created_at)
            case DeleteVersion(number=number, created_at=created_at):
                self.deleted[number] = Deleted(self.versions.pop(number), created_at)
            case Restore(number=None, created_at=created_at):
                self._dig_up(created_at)
            case Restore(number=int(number)):
                self.grave = None
                self.versions[number] = self.deleted.pop(number).version
                if self.current is None:
                    self.current = number
            case Purge(numbers=numbers):
                for number in numbers:
                    del self.deleted[number]
                if self.grave is not None and not self.grave.numbers & self.deleted.keys():
                    self.grave = None
        self._set_terms(operation)

    def after(self, operation: Operation) -> "NameHistory":
        """A history of its own, so that whoever looks at this one never sees half a change."""
        changed = self.copy()
        changed.apply(operation)
        return changed

    def copy(self) -> "NameHistory":
        return replace(
            self,
            versions=dict(self.versions),
            aliases=dict(self.aliases),
            trail=list(self.trail),
            digests=set(self.digests),
            deleted=dict(self.deleted),
        )

    def kept_digests(self, given_up: Collection[int] = ()) -> set[str]:
        """Content of the versions, deleted ones included but for the numbers `given_up`."""
        live = {version.digest for version in self.versions.values()}
        return live | {
            one.version.digest for number, one in self.deleted.items() if number not in given_up
        }

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def _set_terms(self, operation: Operation) -> None:
        """How long the name lives, who sees it, and whether what it leads to stays in memory."""
        if isinstance(operation, Publish | Point | Move):
            if operation.visibility is not None:
                self.visibility = operation.visibility
            if operation.expires_at is not None:
                self.expires_at = operation.expires_at or None
        if isinstance(operation, Move) and operation.pinned is not None:
            self.pinned = operation.pinned

    def _bury(self, created_at: int) -> None:
        if self.current is not None:
            numbers = frozenset(self.versions)
            self.grave = Grave(
                numbers,
                self.current,
                self.aliases,
                tuple(self.trail),
                self.pinned,
                None if self.is_expired(created_at) else self.expires_at,
            )
        for number, version in self.versions.items():
            self.deleted[number] = Deleted(version, created_at)
        self.versions, self.aliases, self.trail = {}, {}, []
        self.current, self.expires_at, self.pinned = None, None, False

    def _dig_up(self, now: int) -> None:
        """What ended by itself begins anew, or it would end at once.

        Raises AttributeError or KeyError where there is no such name to restore.
        """
        grave: Any = self.grave
        for number in grave.numbers:
            self.versions[number] = self.deleted.pop(number).version
        self.current, self.trail = grave.current, list(grave.trail)
        self.aliases, self.pinned = dict(grave.aliases), grave.pinned
        is_to_come = grave.expires_at is not None and grave.expires_at > now
        self.expires_at = grave.expires_at if is_to_come else None
        self.grave = None

    def _lead_to(self, number: int | None) -> None:
        if number is None or number == self.current:
            return
        if self.current is not None:
            self.trail.append(self.current)
        self.current = number

    def _set_aliases(self, aliases: tuple[tuple[str, Shares], ...]) -> None:
        for alias, shares in aliases:
            if shares:
                self.aliases[alias] = shares
            else:
                self.aliases.pop(alias, None)

    def visibility_of(self, name: str) -> Visibility:
        """As somebody has said, or as it is by default; the journal's name decides that."""
        return default_visibility(name) if self.visibility is None else self.visibility

    def current_version(self) -> Publish | None:
        return None if self.current is None else self.versions[self.current]

    def operation_for(
        self,
        digest: str,
        created_at: int,
        warnings: tuple[str, ...] = (),
        unused_files: tuple[str, ...] = (),
        verdict: Verdict | None = None,
        expires_at: int | None = None,
        visibility: Visibility | None = None,
        origin: Origin | None = None,
    ) -> Publish | Point | Move | None:
        """What publishing this content means now; None when it is already the current version and
        lives as long, and is as visible, as it is to be."""
        if expires_at is None and self.is_expired(created_at):
            expires_at = 0  # what is over begins anew
        same = [number for number, version in self.versions.items() if version.digest == digest]
        if not same:
            number = self.highest_number + 1
            return Publish(
                number,
                digest,
                created_at,
                warnings,
                unused_files,
                verdict,
                expires_at,
                visibility,
                origin,
            )
        if same[0] != self.current:
            return Point(same[0], created_at, expires_at, visibility)
        is_same_end = expires_at is None or (expires_at or None) == self.expires_at
        if is_same_end and visibility in (None, self.visibility):
            return None
        return Move(created_at, expires_at=expires_at, visibility=visibility)
