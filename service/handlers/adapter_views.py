"""What the use cases of adapters tell their callers; plain data, no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.adapters.history import NameHistory
from service.adapters.manifest import Conversion, Form, Manifest
from service.adapters.operations import Publish
from service.adapters.origin import Origin
from service.adapters.shares import Shares
from service.adapters.verdict import Verdict
from service.errors import Refusal
from service.tenancy import PRIVATE, Visibility

State = Literal["ready", "errored", "deleted"]
Tier = Literal["device", "host", "disk", "store"]


@dataclass(frozen=True, slots=True)
class VersionView:
    number: int
    digest: str
    created_at: int
    kind: str
    rank: int
    targets: tuple[str, ...]
    num_bytes: int
    is_current: bool
    has_chat_template: bool
    """Of its own."""
    num_added_tokens: int
    tier: Tier
    """The fastest place that holds it now."""
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]
    form: Form = "terms"
    is_summable: bool = False
    """Whether it may take part in a weighted sum."""
    verdict: Verdict | None = None
    """Of the check at upload."""
    conversion: Conversion | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class DeletedVersionView:
    """A version that can be restored."""

    number: int
    digest: str
    created_at: int
    deleted_at: int
    recoverable_until: int
    kind: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class AdapterView:
    name: str
    state: State
    created_at: int | None
    """Of the oldest version that can be used."""
    versions: tuple[VersionView, ...]
    reasons: tuple[Refusal, ...]
    """Why the folder of this name in the store cannot be used, if it cannot."""
    aliases: Mapping[str, Shares] = field(default_factory=dict)
    """Of a deleted name, those that it had."""
    deleted: tuple[DeletedVersionView, ...] = ()
    pinned: bool = False
    is_pin_over_limit: bool = False
    """It is not held, because the pinned names have come to need more than they may take."""
    expires_at: int | None = None
    """Unix seconds from which the name is gone."""
    revision: int = 0
    """Changes that the name has seen: another number, another state."""
    visibility: Visibility = PRIVATE

    @property
    def current(self) -> VersionView | None:
        return next((version for version in self.versions if version.is_current), None)


@dataclass(frozen=True, slots=True)
class PublishResult:
    name: str
    version: VersionView
    is_created: bool
    """False when the content already was the current version."""
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]
    """Of this upload; the version keeps those of the upload that made it."""
    revision: int
    """Of the adapter, as in `AdapterView`."""


def view_version(
    version: Publish, history: NameHistory, manifest: Manifest, tier: Tier
) -> VersionView:
    return VersionView(
        number=version.number,
        digest=version.digest,
        created_at=version.created_at,
        kind=manifest.kind,
        rank=manifest.rank,
        targets=manifest.targets,
        num_bytes=manifest.num_bytes,
        has_chat_template=manifest.has_chat_template,
        num_added_tokens=manifest.num_added_tokens,
        is_current=history.current == version.number,
        tier=tier,
        warnings=version.warnings,
        unused_files=version.unused_files,
        form=manifest.form,
        is_summable=manifest.is_summable,
        verdict=version.verdict,
        conversion=manifest.conversion,
        origin=version.origin,
    )
