"""The audit log: an admin's, of its own tenant; an operator's, of every tenant."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import AdminDep, ServicesDep
from service.api.parameters import FromDay, OfTenant, ToDay, today
from service.api.schemas.audit import AuditRecords
from service.handlers.reports import days_between, seen_tenant

router = APIRouter(tags=["tenants"])


@router.get("/audit", summary="Who changed what, oldest first")
async def read_audit(
    services: ServicesDep,
    principal: AdminDep,
    first: FromDay = None,
    last: ToDay = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Records per page.")] = 100,
    after: Annotated[
        str | None, Query(max_length=32, description="`id` after which the page begins.")
    ] = None,
    tenant: OfTenant = None,
) -> AuditRecords:
    days = days_between(first, last, today())
    page = await services.audit.page(*days, limit, after, seen_tenant(principal, tenant))
    return AuditRecords.of(page)
