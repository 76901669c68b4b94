"""Bodies of the routes that delete, restore and free."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.adapters.collector import Freed
from service.adapters.naming import written_digest
from service.api.schemas.aliases import Number
from service.handlers.adapter_views import DeletedVersionView


class DeletedAdapter(BaseModel):
    object: Literal["adapter.deleted"] = "adapter.deleted"
    name: str
    version: int | None = Field(None, description="null = the name with all its versions.")
    deleted: Literal[True] = True


class RestoreBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"version": 3}]}
    )

    version: Number | None = Field(None, description="null = the whole name.")


class DeletedVersion(BaseModel):
    version: int
    digest: str
    kind: str
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    deleted_at: int = Field(description="Unix seconds.")
    recoverable_until: int = Field(description="Unix seconds; from then on it is gone.")

    @classmethod
    def of(cls, view: DeletedVersionView) -> "DeletedVersion":
        return cls(
            version=view.number,
            digest=written_digest(view.digest),
            kind=view.kind,
            bytes=view.num_bytes,
            created_at=view.created_at,
            deleted_at=view.deleted_at,
            recoverable_until=view.recoverable_until,
        )


class CollectedVersion(BaseModel):
    name: str
    version: int
    digest: str


class Collected(BaseModel):
    object: Literal["gc"] = "gc"
    dry_run: bool
    versions: list[CollectedVersion] = Field(description="Given up for good.")
    contents: int = Field(description="Originals that nothing needs any more.")
    content_bytes: int
    compiled: int = Field(description="Contents whose compiled forms went from the cache.")
    compiled_bytes: int

    @classmethod
    def of(cls, freed: Freed, *, is_dry_run: bool) -> "Collected":
        return cls.model_validate(freed.body(is_dry_run=is_dry_run))
