"""What is where on this replica, as routers poll it."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from service.api.dependencies import PrincipalDep, ServicesDep
from service.api.schemas.residency import Residency
from service.handlers.residency import PLACES, Place

router = APIRouter(tags=["operations"])

_ETAG = {"description": "Of what is where; for operators.", "schema": {"type": "string"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": _ETAG}},
    304: {"description": "Nothing is elsewhere.", "headers": {"ETag": _ETAG}},
}


@router.get(
    "/residency",
    summary="Which adapters this replica has on which tier",
    response_model=Residency,
    responses=_RESPONSES,
)
async def read_residency(
    response: Response,
    services: ServicesDep,
    principal: PrincipalDep,
    tier: Annotated[
        list[Place],
        Query(max_length=3, description="What has its fastest copy there; repeatable."),
    ] = list(PLACES),  # noqa: B006
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries per page.")] = 100,
    after: Annotated[
        str | None, Query(max_length=512, description="`id` after which the page begins.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="The ETag of what the caller has; a 304 if it is true yet.")
    ] = None,
) -> Any:
    """Of all adapters to operators, of its own to a tenant. A 304 says that nothing has moved; what
    runs and waits changes with every request, and is as of now in each 200."""
    etag = _etag(services.residency.generation)
    if principal.is_operator and etag in _tags(if_none_match):
        return Response(status_code=304, headers={"ETag": etag})
    # On a thread: ten thousand adapters must not hold up a token.
    page = await asyncio.to_thread(
        services.residency.page, principal, frozenset(tier), limit, after
    )
    if page.replica is not None:
        response.headers["ETag"] = _etag(page.replica.generation)
    return Residency.of(page)


def _etag(generation: str) -> str:
    """Weak: the same of two answers that differ in what runs and waits."""
    return f'W/"{generation}"'


def _tags(if_none_match: str | None) -> list[str]:
    return [one.strip() for one in (if_none_match or "").split(",")]
