"""What has happened to one name: the operations of its journal, and the state they add up to.

Pure. Version numbers are never reused, and content once recorded is remembered beyond a delete, so
that a folder shipped with the store does not come back after somebody deleted it.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from service.adapters.shares import Shares
from service.adapters.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Publish:
    number: int
    digest: str
    created_at: int
    """Unix seconds."""
    warnings: tuple[str, ...] = ()
    unused_files: tuple[str, ...] = ()
    verdict: Verdict | None = None
    """Of the check at upload; None when it was turned off."""


@dataclass(frozen=True, slots=True)
class Point:
    """The name moves back to a version that it already has."""

    number: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Move:
    """The name and any of its aliases move together; one record, so all of it or nothing."""

    created_at: int
    current: int | None = None
    """None leaves it where it is."""
    aliases: tuple[tuple[str, Shares], ...] = ()
    """No shares at all remove the alias."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """The name moves back to the version that was current before."""

    number: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Delete:
    created_at: int


Operation = Publish | Point | Move | Rollback | Delete
_OPERATIONS: dict[str, type[Operation]] = {
    "publish": Publish,
    "point": Point,
    "move": Move,
    "rollback": Rollback,
    "delete": Delete,
}
_NAMES = {kind: name for name, kind in _OPERATIONS.items()}


def operation_to_json(operation: Operation) -> dict[str, Any]:
    return {"op": _NAMES[type(operation)], **asdict(operation)}


def operation_from_json(raw: dict[str, Any]) -> Operation:
    """Raises KeyError or TypeError on anything else."""
    fields: dict[str, Any] = {key: _frozen(value) for key, value in raw.items()}
    if fields.get("verdict") is not None:
        fields["verdict"] = Verdict(**fields["verdict"])
    build: Any = _OPERATIONS[str(fields.pop("op"))]
    operation: Operation = build(**fields)
    return operation


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


@dataclass(slots=True)
class NameHistory:
    """The replay of one journal; changed by `apply` alone."""

    versions: dict[int, Publish] = field(default_factory=dict)
    """Addressable versions: those published since the last delete."""
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

    def apply(self, operation: Operation) -> None:
        self.num_operations += 1
        match operation:
            case Publish(number=number, digest=digest):
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
            case Delete():
                self.versions, self.aliases, self.trail = {}, {}, []
                self.current = None

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

    def current_version(self) -> Publish | None:
        return None if self.current is None else self.versions[self.current]

    def operation_for(
        self,
        digest: str,
        created_at: int,
        warnings: tuple[str, ...] = (),
        unused_files: tuple[str, ...] = (),
        verdict: Verdict | None = None,
    ) -> Publish | Point | None:
        """What publishing this content means now; None when it is already the current version."""
        same = [number for number, version in self.versions.items() if version.digest == digest]
        if not same:
            number = self.highest_number + 1
            return Publish(number, digest, created_at, warnings, unused_files, verdict)
        return None if same[0] == self.current else Point(same[0], created_at)
