"""Response bodies of `/v1/adapters`."""

import math
from functools import partial
from typing import Literal

from pydantic import BaseModel, Field

from service.adapters.manifest import Conversion as ConversionRecord
from service.adapters.naming import written_digest
from service.adapters.origin import Origin as OriginRecord
from service.adapters.verdict import Verdict
from service.api.schemas.aliases import Target, shown
from service.api.schemas.deletions import DeletedVersion
from service.api.schemas.visibility import VisibilityField, shown_visibility
from service.core import AdapterRef
from service.errors import Refusal
from service.handlers.adapter_views import AdapterView, PublishResult, VersionView
from service.handlers.visible import may_change
from service.tenancy import Principal, bare_name, tenant_of


class Reason(BaseModel):
    code: str
    subject: str = Field(description="The config field, tensor or file it is about.")
    message: str

    @classmethod
    def of(cls, refusal: Refusal) -> "Reason":
        return cls(code=refusal.code, subject=refusal.subject, message=refusal.message)


class Check(BaseModel):
    """How far the served logits are from what peft computes."""

    verdict: Literal["exact", "differs"]
    max_logit_difference: float | None = Field(description="null when it is not a number.")
    base_difference: float = Field(description="The same for the base without an adapter.")
    tolerance: float
    dtype: str
    positions: int = Field(description="Positions compared, each over the whole vocabulary.")
    checked_at: int = Field(description="Unix seconds.")

    @classmethod
    def of(cls, verdict: Verdict) -> "Check":
        difference = verdict.max_logit_difference
        return cls(
            verdict="exact" if verdict.is_exact else "differs",
            max_logit_difference=difference if math.isfinite(difference) else None,
            base_difference=verdict.base_difference,
            tolerance=verdict.tolerance,
            dtype=verdict.dtype,
            positions=verdict.num_positions,
            checked_at=verdict.checked_at,
        )


class Conversion(BaseModel):
    """What approximating the upload by a LoRA has cost."""

    kind: str = Field(description="Kind of the upload.")
    rank: int
    max_error: float = Field(description="Largest error of a module.")
    mean_kl: float = Field(description="Of the next token on probe prompts, in nats.")
    modules: dict[str, float] = Field(
        description="Relative error of each module's weight change, Frobenius norm."
    )

    @classmethod
    def of(cls, conversion: ConversionRecord) -> "Conversion":
        return cls(
            kind=conversion.kind,
            rank=conversion.rank,
            max_error=conversion.max_error,
            mean_kl=conversion.mean_kl,
            modules=dict(conversion.module_errors),
        )


class VerifiedAdapter(Check):
    object: Literal["adapter.check"] = "adapter.check"
    name: str
    version: int
    digest: str

    @classmethod
    def of_version(cls, ref: AdapterRef, verdict: Verdict) -> "VerifiedAdapter":
        digest = written_digest(ref.digest)
        check = Check.of(verdict).model_dump()
        return cls(name=bare_name(ref.name), version=ref.version, digest=digest, **check)


class Origin(BaseModel):
    """Where the server has fetched it from."""

    source: str = Field(description="As it was asked for, without the query of a URL.")
    revision: str = Field(description="A commit or an ETag; empty where there is none.")
    fetched_at: int = Field(description="Unix seconds.")

    @classmethod
    def of(cls, origin: OriginRecord) -> "Origin":
        return cls(source=origin.source, revision=origin.revision, fetched_at=origin.fetched_at)


class AdapterVersion(BaseModel):
    version: int
    digest: str = Field(description="`sha256:` and the digest of the content.")
    created_at: int = Field(description="Unix seconds.")
    kind: str = Field(examples=["lora", "dora"])
    rank: int = Field(description="Highest rank of any module.")
    targets: list[str] = Field(description="Last parts of the touched modules' names.")
    bytes: int = Field(description="Of the original files.")
    current: bool = Field(description="Whether the bare name leads here.")
    chat_template: Literal["own", "base"] = Field(description="Which one its chat requests use.")
    added_tokens: int = Field(description="Tokens that its own tokenizer files add or change.")
    tier: Literal["device", "host", "disk", "store"] | None = Field(
        description="The fastest place that has it now; for operators."
    )
    form: Literal["terms", "module"] = Field(
        description="As terms of the operator, or at some module through peft's own layer."
    )
    summable: bool = Field(description="Whether `adapters` of a request may name it with others.")
    check: Check | None = Field(description="Of the upload against peft; null = not checked.")
    conversion: Conversion | None = Field(description="null = served as it was uploaded.")
    origin: Origin | None = Field(
        description="null = a client has sent it; also to all but its owner."
    )
    warnings: list[str]
    unused_files: list[str] = Field(description="Files of the upload that were not read.")

    @classmethod
    def of(cls, view: VersionView, *, shows_tier: bool, shows_origin: bool) -> "AdapterVersion":
        """Where a version lies also depends on other tenants that have the same content."""
        return cls(
            version=view.number,
            digest=written_digest(view.digest),
            created_at=view.created_at,
            kind=view.kind,
            rank=view.rank,
            targets=list(view.targets),
            bytes=view.num_bytes,
            current=view.is_current,
            chat_template="own" if view.has_chat_template else "base",
            added_tokens=view.num_added_tokens,
            tier=view.tier if shows_tier else None,
            form=view.form,
            summable=view.is_summable,
            check=Check.of(view.verdict) if view.verdict else None,
            conversion=Conversion.of(view.conversion) if view.conversion else None,
            origin=Origin.of(view.origin) if view.origin and shows_origin else None,
            warnings=list(view.warnings),
            unused_files=list(view.unused_files),
        )


class PublishedAdapter(BaseModel):
    object: Literal["adapter.version"] = "adapter.version"
    name: str
    version: int
    digest: str
    kind: str
    rank: int
    targets: list[str]
    bytes: int
    chat_template: Literal["own", "base"]
    added_tokens: int
    created: bool = Field(description="False when this content already was the current version.")
    created_at: int
    form: Literal["terms", "module"]
    check: Check | None
    conversion: Conversion | None
    warnings: list[str]
    unused_files: list[str]

    @classmethod
    def of(cls, result: PublishResult) -> "PublishedAdapter":
        version = AdapterVersion.of(result.version, shows_tier=False, shows_origin=True)
        return cls(
            name=bare_name(result.name),
            version=version.version,
            digest=version.digest,
            kind=version.kind,
            rank=version.rank,
            targets=version.targets,
            bytes=version.bytes,
            chat_template=version.chat_template,
            added_tokens=version.added_tokens,
            created=result.is_created,
            created_at=version.created_at,
            form=version.form,
            check=version.check,
            conversion=version.conversion,
            warnings=list(result.warnings),
            unused_files=list(result.unused_files),
        )


class Adapter(BaseModel):
    object: Literal["adapter"] = "adapter"
    name: str
    tenant: str = Field(description="Whose it is.")
    visibility: VisibilityField | None = Field(
        description="Who may use it beside its owner; null to those."
    )
    state: Literal["ready", "errored", "deleted"]
    created_at: int | None
    current: AdapterVersion | None
    aliases: dict[str, Target] = Field(
        description="A version, or weights by version, of every `name@alias`; "
        "of a deleted adapter, what it had."
    )
    versions: list[AdapterVersion]
    deleted: list[DeletedVersion] = Field(description="Versions that can be restored.")
    reasons: list[Reason] = Field(description="Why the folder of this name cannot be used.")
    pinned: bool = Field(description="Whether what it leads to stays in host memory.")
    pin_over_limit: bool = Field(
        description="It is pinned but not held: pinned names have grown beyond what they may take."
    )
    expires_at: int | None = Field(description="When the name is deleted (Unix seconds).")

    @classmethod
    def of(cls, view: AdapterView, principal: Principal) -> "Adapter":
        """What is only its owner's business is shown to nobody else."""
        tenant, is_owner = tenant_of(view.name), may_change(principal, view.name)
        version = partial(
            AdapterVersion.of, shows_tier=principal.is_operator, shows_origin=is_owner
        )
        versions = [version(one) for one in view.versions]
        return cls(
            name=bare_name(view.name),
            tenant=tenant,
            visibility=shown_visibility(view.visibility) if is_owner else None,
            state=view.state,
            created_at=view.created_at,
            current=next((one for one in versions if one.current), None),
            aliases={alias: shown(shares) for alias, shares in view.aliases.items()},
            versions=versions,
            deleted=[DeletedVersion.of(one) for one in view.deleted] if is_owner else [],
            reasons=[Reason.of(reason) for reason in view.reasons],
            pinned=view.pinned,
            pin_over_limit=view.is_pin_over_limit,
            expires_at=view.expires_at,
        )


class AdapterPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[Adapter]
    has_more: bool
