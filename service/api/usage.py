"""What was used: an admin's, of its own tenant; an operator's, of every tenant."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import AdminDep, ServicesDep
from service.api.parameters import FromDay, OfTenant, ToDay, today
from service.api.schemas.usage import UsageReport
from service.handlers.reports import days_between, seen_tenant
from service.handlers.usage import Dimension

router = APIRouter(tags=["tenants"])


@router.get("/usage", summary="Requests, tokens and loaded bytes, by day")
async def read_usage(
    services: ServicesDep,
    principal: AdminDep,
    first: FromDay = None,
    last: ToDay = None,
    group_by: Annotated[
        list[Dimension],
        Query(
            max_length=4,
            description="What is told apart; repeatable. A version is with its adapter.",
        ),
    ] = [Dimension.TENANT],  # noqa: B006
    tenant: OfTenant = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Records per page.")] = 100,
    after: Annotated[
        str | None, Query(max_length=512, description="`id` after which the page begins.")
    ] = None,
) -> UsageReport:
    days = days_between(first, last, today())
    shown = seen_tenant(principal, tenant)
    return UsageReport.of(await services.usage.report(*days, group_by, shown, limit, after))
