"""What the server says about adapters."""

from collections.abc import Mapping
from typing import Any, Self

from service.client.results.base import Reason, Result


class Check(Result):
    """How far the served logits are from what peft computes."""

    verdict: str
    """`exact` or `differs`."""
    max_logit_difference: float | None
    base_difference: float
    tolerance: float
    dtype: str
    positions: int
    checked_at: int
    """Unix seconds."""


class Conversion(Result):
    """What approximating the upload by a LoRA has cost."""

    kind: str
    rank: int
    max_error: float
    mean_kl: float
    """Nats."""
    modules: Mapping[str, float]


class Origin(Result):
    """Where the server has fetched a version from."""

    source: str
    revision: str
    """A commit or an ETag; empty where there is none."""
    fetched_at: int
    """Unix seconds."""


class PublishedAdapter(Result):
    name: str
    version: int
    digest: str
    kind: str
    rank: int
    targets: tuple[str, ...]
    bytes: int
    created: bool
    """False when this content already was the current version."""
    created_at: int
    form: str
    check: Check | None
    conversion: Conversion | None
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]


class AdapterVersion(Result):
    version: int
    digest: str
    created_at: int
    kind: str
    rank: int
    targets: tuple[str, ...]
    bytes: int
    current: bool
    tier: str | None
    """The fastest place that has it now; None for those who are not told."""
    form: str
    summable: bool
    check: Check | None
    conversion: Conversion | None
    origin: Origin | None = None
    """None when a client has sent it; also to all but its owner."""
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]


class DeletedVersion(Result):
    version: int
    digest: str
    kind: str
    bytes: int
    created_at: int
    deleted_at: int
    recoverable_until: int
    """Unix seconds, from when on it is gone."""


class SharedWith(Result):
    tenants: tuple[str, ...]


class Adapter(Result):
    name: str
    tenant: str
    """Whose it is."""
    visibility: str | SharedWith | None
    """`private`, `public` or some tenants; None for those who do not own it."""
    pinned: bool
    """Whether what it leads to stays in host memory."""
    pin_over_limit: bool
    """It is pinned but not held: pinned names have grown beyond what they may take."""
    expires_at: int | None
    """Unix seconds at which the name is deleted; None = never."""
    state: str
    """`ready`, `errored` or `deleted`."""
    created_at: int | None
    current: AdapterVersion | None
    aliases: Mapping[str, int | Mapping[str, int]]
    """A version, or weights by version."""
    versions: tuple[AdapterVersion, ...]
    deleted: tuple[DeletedVersion, ...]
    """Those that can be restored."""
    reasons: tuple[Reason, ...]
    etag: str = ""
    """For `if_match` of a change; empty in a listing."""

    @classmethod
    def of(cls, body: Any, headers: Mapping[str, str]) -> Self:
        tag = {"etag": headers["etag"]} if "etag" in headers else {}
        return cls.model_validate(body | tag if isinstance(body, dict) else body)


class DeletedAdapter(Result):
    name: str
    version: int | None
    """None = the name with all its versions."""
    deleted: bool


class CollectedVersion(Result):
    name: str
    version: int
    digest: str


class Collected(Result):
    """What is gone for good, or would be."""

    dry_run: bool
    versions: tuple[CollectedVersion, ...]
    contents: int
    content_bytes: int
    compiled: int
    compiled_bytes: int


class VerifiedAdapter(Check):
    name: str
    version: int
    digest: str


class WarmedAdapter(Result):
    name: str
    version: int
    digest: str
    tier: str
    """Where it is now."""
    milliseconds: float
