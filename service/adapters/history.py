"""What has happened to one name: the operations of its journal, and the state they add up to.

Pure. Version numbers are never reused, and content once recorded is remembered beyond a delete, so
that a folder shipped with the store does not come back after somebody deleted it.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

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
class Delete:
    created_at: int


Operation = Publish | Point | Delete
_OPERATIONS: dict[str, type[Operation]] = {"publish": Publish, "point": Point, "delete": Delete}
_NAMES = {kind: name for name, kind in _OPERATIONS.items()}


def operation_to_json(operation: Operation) -> dict[str, Any]:
    return {"op": _NAMES[type(operation)], **asdict(operation)}


def operation_from_json(raw: dict[str, Any]) -> Operation:
    """Raises KeyError or TypeError on anything else."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    if fields.get("verdict") is not None:
        fields["verdict"] = Verdict(**fields["verdict"])
    build: Any = _OPERATIONS[str(fields.pop("op"))]
    operation: Operation = build(**fields)
    return operation


@dataclass(slots=True)
class NameHistory:
    """The replay of one journal; changed by `apply` alone."""

    versions: dict[int, Publish] = field(default_factory=dict)
    """Addressable versions: those published since the last delete."""
    current: int | None = None
    """None while the name is deleted or was never published."""
    num_operations: int = 0
    highest_number: int = 0
    digests: set[str] = field(default_factory=set)
    """Of every version ever published, deleted ones included."""

    def apply(self, operation: Operation) -> None:
        self.num_operations += 1
        match operation:
            case Publish(number=number, digest=digest):
                self.versions[number] = operation
                self.current = number
                self.highest_number = max(self.highest_number, number)
                self.digests.add(digest)
            case Point(number=number):
                self.current = number
            case Delete():
                self.versions = {}
                self.current = None

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
