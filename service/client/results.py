"""What the server answers, as frozen objects.

Fields that a newer server adds are kept, so that nothing is lost when a result is printed.
"""

from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def of(cls, body: Any, headers: Mapping[str, str]) -> Self:  # noqa: ARG003
        return cls.model_validate(body)


class Page(Result, Generic[T]):
    data: tuple[T, ...]
    has_more: bool = False


class Reason(Result):
    code: str
    subject: str
    message: str


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
    tier: str
    form: str
    summable: bool
    check: Check | None
    conversion: Conversion | None
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]


class Adapter(Result):
    name: str
    state: str
    """`ready` or `errored`."""
    created_at: int | None
    current: AdapterVersion | None
    aliases: Mapping[str, int | Mapping[str, int]]
    """A version, or weights by version."""
    versions: tuple[AdapterVersion, ...]
    reasons: tuple[Reason, ...]
    etag: str = ""
    """For `if_match` of a change; empty in a listing."""

    @classmethod
    def of(cls, body: Any, headers: Mapping[str, str]) -> Self:
        tag = {"etag": headers["etag"]} if "etag" in headers else {}
        return cls.model_validate(body | tag if isinstance(body, dict) else body)


class DeletedAdapter(Result):
    name: str
    deleted: bool


class VerifiedAdapter(Check):
    name: str
    version: int
    digest: str


class ModelCard(Result):
    id: str
    created: int
    parent: str | None
    version: int | None = None
    """None for the base."""
    digest: str | None = None


class Version(Result):
    version: str
    model: str
    architecture: str
    dtype: str
    device: str
    max_model_len: int


class Readiness(Result):
    status: str

    @property
    def is_ready(self) -> bool:
        return self.status == "ready"
