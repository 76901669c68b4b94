"""Routes of adapters: publish, list, look at, verify."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from service.adapters.lifetime import MAX_TTL_S
from service.api.aliases import answer, etag
from service.api.dependencies import PrincipalDep, PublisherDep, ServicesDep
from service.api.imports import begin_import, is_import
from service.api.parameters import AdapterName, AdapterSelector, OwnedBy
from service.api.schemas.adapters import (
    Adapter,
    AdapterPage,
    PublishedAdapter,
    VerifiedAdapter,
)
from service.api.schemas.aliases import MAX_MOMENT, lifetime_of
from service.api.schemas.errors import answers
from service.api.schemas.imports import Import, ImportBody
from service.api.schemas.visibility import visibility_of
from service.api.uploads import receive_upload
from service.errors import InvalidRequest
from service.handlers.adapters import AdapterService, Terms
from service.phases import phase
from service.tenancy import qualified

router = APIRouter(prefix="/adapters", tags=["adapters"])

_NUM_AT_ONCE = 100
"""Entries of a page that are written before streams have their turn."""

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ImportBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {
                            "type": "string",
                            "description": "Name to publish under.",
                            "examples": ["date-iso", "my-dates"],
                        },
                        "files": {
                            "type": "array",
                            "description": "The files of the PEFT folder, one part each.",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "archive": {
                            "type": "string",
                            "format": "binary",
                            "description": "Or one .zip or .tar.gz of that folder.",
                        },
                    },
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=PublishedAdapter,
    summary="Publish a PEFT adapter",
    openapi_extra=_UPLOAD_BODY,
    responses={
        200: {"model": PublishedAdapter, "description": "This content already was current."},
        202: {
            "model": Import,
            "description": "The server fetches it; `/v1/imports/{id}` says how that goes.",
            "headers": {
                "Location": {"description": "Of the import.", "schema": {"type": "string"}}
            },
        },
        **answers(404, 409, 415, 422, 507),
    },
)
async def publish_adapter(
    request: Request,
    response: Response,
    services: ServicesDep,
    principal: PublisherDep,
    convert: Annotated[
        Literal["lora"] | None, Query(description="Approximate another kind by a LoRA.")
    ] = None,
    rank: Annotated[int | None, Query(ge=1, description="Rank of that LoRA.")] = None,
    tenant: Annotated[
        str | None,
        Query(max_length=63, description="Whose it becomes; another's needs an operator."),
    ] = None,
    visibility: Annotated[
        Literal["private", "public"] | None,
        Query(description="Who may use it beside its owner; by default as it is."),
    ] = None,
    ttl_s: Annotated[
        int | None, Query(ge=1, le=MAX_TTL_S, description="Seconds after which the name goes.")
    ] = None,
    expires_at: Annotated[
        int | None, Query(ge=1, le=MAX_MOMENT, description="Or when it goes (Unix seconds).")
    ] = None,
) -> Any:
    """As files, or as JSON with the `source` that the server is to fetch it from. How long the name
    lives and who sees it is left as it is unless it is said."""
    adapters: AdapterService = services.adapters
    if (convert is None) != (rank is None):
        raise InvalidRequest("`convert` and `rank` go together.", "rank" if convert else "convert")
    is_limited = ttl_s is not None or expires_at is not None
    lifetime = lifetime_of(ttl_s, expires_at) if is_limited else None
    owner = services.access.tenants.acting_for(principal, tenant)
    seen_by = None if visibility is None else visibility_of(visibility)
    if is_import(request):
        return await begin_import(request, services, owner, rank, Terms(lifetime, seen_by))
    with phase("receive"):
        name, staging = await receive_upload(request, adapters, owner)
    result = await adapters.publish(qualified(owner, name), staging, rank, lifetime, seen_by)
    if not result.is_created:
        response.status_code = 200
    response.headers["ETag"] = etag(result.revision)
    return PublishedAdapter.of(result)


@router.get("", summary="A tenant's adapters, by name")
async def list_adapters(
    services: ServicesDep,
    principal: PrincipalDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Adapters per page.")] = 100,
    after: Annotated[str | None, Query(description="Name after which the page begins.")] = None,
    deleted: Annotated[
        bool, Query(description="Those that are deleted and can be restored, instead.")
    ] = False,
    tenant: Annotated[
        str | None,
        Query(max_length=63, description="Of another tenant those that the caller may use."),
    ] = None,
) -> AdapterPage:
    adapters: AdapterService = services.adapters
    pages = adapters.visible.list_deleted if deleted else adapters.visible.list
    views, has_more = pages(principal, tenant, limit, after)
    data: list[Adapter] = []
    for start in range(0, len(views), _NUM_AT_ONCE):
        await asyncio.sleep(0)
        data += [Adapter.of(view, principal) for view in views[start : start + _NUM_AT_ONCE]]
    return AdapterPage(data=data, has_more=has_more)


@router.get("/{name}", summary="One adapter with its versions", responses=answers(404))
async def get_adapter(
    name: AdapterName,
    response: Response,
    services: ServicesDep,
    principal: PrincipalDep,
    tenant: OwnedBy = None,
) -> Adapter:
    """Its ETag changes with versions and aliases, for `If-Match` of a change."""
    adapters: AdapterService = services.adapters
    view = adapters.get(adapters.visible.find(principal, name, tenant))
    return answer(view, response, principal)


@router.post(
    "/{name}/verify",
    summary="Compare an adapter, as it is served now, with peft",
    responses=answers(404, 422, 504),
)
async def verify_adapter(
    name: AdapterSelector,
    services: ServicesDep,
    principal: PublisherDep,
    tenant: OwnedBy = None,
) -> VerifiedAdapter:
    """Probe prompts run through the live engine and through peft. `name` may say a version."""
    adapters: AdapterService = services.adapters
    owned = adapters.visible.owned_model(principal, name, tenant)
    ref, verdict = await adapters.verify(owned)
    return VerifiedAdapter.of_version(ref, verdict)
