"""Routes of adapters: publish, list, look at, verify."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from service.api.aliases import etag
from service.api.dependencies import PublisherDep, ServicesDep
from service.api.parameters import AdapterName, AdapterSelector
from service.api.schemas.adapters import (
    Adapter,
    AdapterPage,
    PublishedAdapter,
    VerifiedAdapter,
)
from service.api.schemas.errors import answers
from service.api.uploads import receive_upload
from service.errors import InvalidRequest
from service.handlers.adapters import AdapterService
from service.phases import phase

router = APIRouter(prefix="/adapters", tags=["adapters"])

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
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
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Publish a PEFT adapter",
    openapi_extra=_UPLOAD_BODY,
    responses={
        200: {"model": PublishedAdapter, "description": "This content already was current."},
        **answers(409, 415, 422, 507),
    },
)
async def publish_adapter(
    request: Request,
    response: Response,
    services: ServicesDep,
    _: PublisherDep,
    convert: Annotated[
        Literal["lora"] | None, Query(description="Approximate another kind by a LoRA.")
    ] = None,
    rank: Annotated[int | None, Query(ge=1, description="Rank of that LoRA.")] = None,
) -> PublishedAdapter:
    adapters: AdapterService = services.adapters
    if (convert is None) != (rank is None):
        raise InvalidRequest("`convert` and `rank` go together.", "rank" if convert else "convert")
    with phase("receive"):
        name, staging = await receive_upload(request, adapters)
    result = await adapters.publish(name, staging, rank)
    if not result.is_created:
        response.status_code = 200
    response.headers["ETag"] = etag(result.revision)
    return PublishedAdapter.of(result)


@router.get("", summary="All adapters, by name")
async def list_adapters(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Adapters per page.")] = 100,
    after: Annotated[str | None, Query(description="Name after which the page begins.")] = None,
    deleted: Annotated[
        bool, Query(description="Those that are deleted and can be restored, instead.")
    ] = False,
) -> AdapterPage:
    adapters: AdapterService = services.adapters
    pages = adapters.deletions.list_deleted if deleted else adapters.list
    views, has_more = pages(limit, after)
    return AdapterPage(data=[Adapter.of(view) for view in views], has_more=has_more)


@router.get("/{name}", summary="One adapter with its versions", responses=answers(404))
async def get_adapter(name: AdapterName, response: Response, services: ServicesDep) -> Adapter:
    """Its ETag changes with versions and aliases, for `If-Match` of a change."""
    adapters: AdapterService = services.adapters
    view = adapters.get(name)
    response.headers["ETag"] = etag(view.revision)
    return Adapter.of(view)


@router.post(
    "/{name}/verify",
    summary="Compare an adapter, as it is served now, with peft",
    responses=answers(404, 422, 504),
)
async def verify_adapter(
    name: AdapterSelector, services: ServicesDep, _: PublisherDep
) -> VerifiedAdapter:
    """Probe prompts run through the live engine and through peft. `name` may say a version."""
    adapters: AdapterService = services.adapters
    ref, verdict = await adapters.verify(name)
    return VerifiedAdapter.of_version(ref, verdict)
