"""What may happen to a name: the operations that its journal records, and their JSON.

A field of one is a field of the other: a store that was written once is read by these names.
"""

from dataclasses import asdict, dataclass
from typing import Any

from service.adapters.origin import Origin
from service.adapters.shares import Shares
from service.adapters.verdict import Verdict
from service.tenancy import Visibility


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
    expires_at: int | None = None
    """Unix seconds from which the name is gone; 0 is never, None leaves it as it is."""
    visibility: Visibility | None = None
    """Of the name; None leaves it as it is."""
    origin: Origin | None = None
    """None when a client sent the content itself."""


@dataclass(frozen=True, slots=True)
class Point:
    """The name moves back to a version that it already has."""

    number: int
    created_at: int
    expires_at: int | None = None
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The name and any of its aliases move together; one record, so all of it or nothing."""

    created_at: int
    current: int | None = None
    """None leaves it where it is."""
    aliases: tuple[tuple[str, Shares], ...] = ()
    """No shares at all remove the alias."""
    visibility: Visibility | None = None
    """None leaves it as it is."""
    pinned: bool | None = None
    """None leaves it as it is."""
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """The name moves back to the version that was current before."""

    number: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Delete:
    """The name goes with all its versions and aliases."""

    created_at: int


@dataclass(frozen=True, slots=True)
class DeleteVersion:
    """One version goes; no pointer leads to it."""

    number: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Restore:
    """A deleted version comes back under its number; pointers of a living name stay."""

    created_at: int
    number: int | None = None
    """None is the whole name, as it was when it was deleted."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Deleted versions are given up for good: nothing restores them after this."""

    numbers: tuple[int, ...]
    created_at: int


Operation = Publish | Point | Move | Rollback | Delete | DeleteVersion | Restore | Purge
_OPERATIONS: dict[str, type[Operation]] = {
    "publish": Publish,
    "point": Point,
    "move": Move,
    "rollback": Rollback,
    "delete": Delete,
    "delete_version": DeleteVersion,
    "restore": Restore,
    "purge": Purge,
}
_NAMES = {kind: name for name, kind in _OPERATIONS.items()}


def operation_to_json(operation: Operation) -> dict[str, Any]:
    return {"op": _NAMES[type(operation)], **asdict(operation)}


def operation_from_json(raw: dict[str, Any]) -> Operation:
    """Raises KeyError or TypeError on anything else."""
    fields: dict[str, Any] = {key: _frozen(value) for key, value in raw.items()}
    if fields.get("verdict") is not None:
        fields["verdict"] = Verdict(**fields["verdict"])
    if fields.get("origin") is not None:
        fields["origin"] = Origin(**fields["origin"])
    build: Any = _OPERATIONS[str(fields.pop("op"))]
    operation: Operation = build(**fields)
    return operation


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
