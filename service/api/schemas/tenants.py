"""Bodies of `/v1/tenants`."""

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.access.tenants import Tenant
from service.tenancy import TENANT_PATTERN, TENANT_RULE, TenantLimits

Amount = Annotated[int, Field(ge=1, le=10**15)]


class Limits(BaseModel):
    """null, or not named, is unlimited."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = Field(None, description="Of prompts and completions.")
    max_concurrent_requests: Amount | None = None
    max_adapters: Amount | None = None
    max_adapter_bytes: Amount | None = None

    def to_limits(self) -> TenantLimits:
        return TenantLimits(**self.model_dump())


class TenantBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(
        pattern=f"^{TENANT_PATTERN}$",
        description=f"{TENANT_RULE[0].upper()}{TENANT_RULE[1:]}.",
        examples=["team-b"],
    )
    limits: Limits | None = Field(None, description="null = the server's defaults.")


class TenantPatch(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    limits: Limits | None = Field(description="In place of what was; null = the defaults.")


class TenantInfo(BaseModel):
    object: Literal["tenant"] = "tenant"
    name: str
    created_at: int | None = Field(description="Unix seconds; null for the operator's own.")
    limits: Limits | None = Field(description="null = the server's defaults.")

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantInfo":
        limits = None if tenant.limits is None else Limits(**asdict(tenant.limits))
        return cls(name=tenant.name, created_at=tenant.created_at, limits=limits)


class TenantPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[TenantInfo]
    has_more: bool


class DeletedTenant(BaseModel):
    object: Literal["tenant.deleted"] = "tenant.deleted"
    name: str
    deleted: Literal[True] = True
