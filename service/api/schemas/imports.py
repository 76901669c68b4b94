"""Bodies of imports: an adapter that the server fetches itself."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.adapters.naming import written_digest
from service.api.exceptions import code_named
from service.api.schemas.adapters import Reason
from service.handlers.import_views import Failure, ImportedVersion, ImportView
from service.sources.address import MAX_LENGTH


class ImportBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"name": "my-dates", "source": "hf://my-org/date-iso@main"}]
        },
    )

    name: str = Field(max_length=512, description="Name to publish under.", examples=["my-dates"])
    source: str = Field(
        min_length=1,
        max_length=MAX_LENGTH,
        description="hf://org/repo[/folder][@revision], s3://bucket/prefix (a PEFT folder, or the"
        " key of an archive), https://host/path (an archive), or a path of the server.",
    )


class ImportFailure(BaseModel):
    code: str = Field(
        description="As in the answer to an upload, or source_not_found, source_denied,"
        " source_timeout, source_failed, source_refused, import_interrupted."
    )
    message: str
    reasons: list[Reason] = Field(description="Why the adapter was refused, if it was.")

    @classmethod
    def of(cls, failure: Failure) -> "ImportFailure":
        reasons = [Reason.of(one) for one in failure.reasons]
        return cls(code=code_named(failure.kind), message=failure.message, reasons=reasons)


class ImportResult(BaseModel):
    version: int
    digest: str
    created: bool = Field(description="False when this content already was the current version.")
    warnings: list[str]
    unused_files: list[str]

    @classmethod
    def of(cls, made: ImportedVersion) -> "ImportResult":
        return cls(
            version=made.version,
            digest=written_digest(made.digest),
            created=made.is_created,
            warnings=list(made.warnings),
            unused_files=list(made.unused_files),
        )


class Import(BaseModel):
    object: Literal["adapter.import"] = "adapter.import"
    id: str
    name: str
    tenant: str = Field(description="Whose adapter it becomes.")
    source: str = Field(description="Without the query of a URL.")
    state: Literal[
        "waiting", "fetching", "validating", "compiling", "ready", "failed", "cancelled"
    ] = Field(description="The last three are its end.")
    bytes: int = Field(description="Fetched so far.")
    total_bytes: int | None = Field(description="As far as the source has said.")
    revision: str = Field(description="What the source calls what was fetched: a commit, an ETag.")
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None
    error: ImportFailure | None = Field(description="Why it has failed.")
    result: ImportResult | None = Field(description="What it has become.")

    @classmethod
    def of(cls, view: ImportView) -> "Import":
        return cls(
            id=view.id,
            name=view.name,
            tenant=view.tenant,
            source=view.source,
            state=view.state.value,
            bytes=view.num_bytes,
            total_bytes=view.total_bytes,
            revision=view.revision,
            created_at=int(view.created_at),
            finished_at=None if view.finished_at is None else int(view.finished_at),
            error=None if view.failure is None else ImportFailure.of(view.failure),
            result=None if view.result is None else ImportResult.of(view.result),
        )


class ImportList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Import]
