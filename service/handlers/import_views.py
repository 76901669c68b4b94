"""What an import is, as it is told and as other replicas are told it."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import TypeAdapter

from service.errors import AdapterRefused, ImportInterrupted, Refusal, RepertoireError
from service.handlers.adapter_views import PublishResult


class ImportState(StrEnum):
    WAITING = "waiting"
    """For one of the fetches that may run at once."""
    FETCHING = "fetching"
    VALIDATING = "validating"
    """Its name and files, until it is its turn to be compiled."""
    COMPILING = "compiling"
    """Until it is published; this goes on to its end."""
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (ImportState.READY, ImportState.FAILED, ImportState.CANCELLED)

    @property
    def is_stoppable(self) -> bool:
        return self in (ImportState.WAITING, ImportState.FETCHING)


@dataclass(frozen=True, slots=True)
class Failure:
    kind: str
    """Name of a class of `errors`, empty for what nobody foresaw."""
    message: str
    reasons: tuple[Refusal, ...] = ()

    @classmethod
    def of(cls, error: Exception) -> Self:
        if not isinstance(error, RepertoireError):
            return cls("", "The server failed; the error was logged.")
        reasons = error.refusals if isinstance(error, AdapterRefused) else ()
        return cls(type(error).__name__, str(error), reasons)

    @property
    def outcome(self) -> str:
        """In metrics and logs: `source_not_found`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.kind).lower() or "internal_error"


INTERRUPTED = Failure.of(
    ImportInterrupted("The server ended before this import did; nothing of it was kept. Ask again.")
)


@dataclass(frozen=True, slots=True)
class ImportedVersion:
    version: int
    digest: str
    is_created: bool
    """False when the content already was the current version."""
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]

    @classmethod
    def of(cls, made: PublishResult) -> Self:
        version = made.version
        return cls(
            version.number, version.digest, made.is_created, made.warnings, made.unused_files
        )


@dataclass(frozen=True, slots=True)
class ImportView:
    """Replaced, never changed."""

    id: str
    tenant: str
    name: str
    """Within the tenant."""
    source: str
    """What may be shown of it."""
    created_at: float
    """Unix seconds."""
    state: ImportState = ImportState.WAITING
    num_bytes: int = 0
    """Fetched so far."""
    total_bytes: int | None = None
    """As far as the source has said."""
    revision: str = ""
    """What the source calls what was fetched."""
    finished_at: float | None = None
    failure: Failure | None = None
    result: ImportedVersion | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ImportView":
        """Without the fields that only a newer replica knows."""
        return _VIEWS.validate_python(raw)


_VIEWS = TypeAdapter(ImportView)
