"""Routes of tenants, for operators."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import OperatorDep, ServicesDep
from service.api.parameters import TenantName
from service.api.schemas.errors import answers
from service.api.schemas.tenants import (
    DeletedTenant,
    TenantBody,
    TenantInfo,
    TenantPage,
    TenantPatch,
)

router = APIRouter(prefix="/tenants", tags=["tenants"])


@router.post("", status_code=201, summary="Make a tenant", responses=answers(409, 507))
async def create_tenant(body: TenantBody, services: ServicesDep, _: OperatorDep) -> TenantInfo:
    limits = None if body.limits is None else body.limits.to_limits()
    return TenantInfo.of(await services.access.tenants.create(body.name, limits))


@router.get("", summary="All tenants, by name")
async def list_tenants(
    services: ServicesDep,
    _: OperatorDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Tenants per page.")] = 100,
    after: Annotated[str | None, Query(description="Name after which the page begins.")] = None,
) -> TenantPage:
    tenants, has_more = services.access.tenants.list(limit, after)
    return TenantPage(data=[TenantInfo.of(tenant) for tenant in tenants], has_more=has_more)


@router.get("/{tenant}", summary="One tenant", responses=answers(404))
async def get_tenant(tenant: TenantName, services: ServicesDep, _: OperatorDep) -> TenantInfo:
    return TenantInfo.of(services.access.tenants.get(tenant))


@router.patch("/{tenant}", summary="Change a tenant's limits", responses=answers(404, 507))
async def change_tenant(
    tenant: TenantName, body: TenantPatch, services: ServicesDep, _: OperatorDep
) -> TenantInfo:
    limits = None if body.limits is None else body.limits.to_limits()
    return TenantInfo.of(await services.access.tenants.set_limits(tenant, limits))


@router.delete(
    "/{tenant}",
    summary="Delete a tenant that owns no adapters, with its keys",
    responses=answers(404, 409, 507),
)
async def delete_tenant(tenant: TenantName, services: ServicesDep, _: OperatorDep) -> DeletedTenant:
    await services.access.tenants.delete(tenant)
    return DeletedTenant(name=tenant)
