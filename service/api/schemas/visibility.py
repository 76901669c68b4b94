"""How it is written who may use an adapter beside its owner."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.tenancy import PRIVATE, PUBLIC, TENANT_PATTERN, Visibility

MAX_SHARED = 256
_Tenant = Annotated[str, StringConstraints(pattern=f"^{TENANT_PATTERN}$")]


class SharedWith(BaseModel):
    """Whether there is such a tenant is not looked at, so that nobody learns which there are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenants: list[_Tenant] = Field(min_length=1, max_length=MAX_SHARED)


VisibilityField = Literal["private", "public"] | SharedWith


def visibility_of(field: VisibilityField) -> Visibility:
    if isinstance(field, SharedWith):
        return tuple(sorted(set(field.tenants)))
    return PUBLIC if field == "public" else PRIVATE


def shown_visibility(visibility: Visibility) -> VisibilityField:
    if visibility == PUBLIC:
        return "public"
    return SharedWith(tenants=list(visibility)) if visibility else "private"
