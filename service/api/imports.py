"""Routes of imports: how they go, and their end. They begin with `POST /v1/adapters`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from service.api.dependencies import PublisherDep, Services, ServicesDep
from service.api.middleware import API_PREFIX
from service.api.parameters import ImportId
from service.api.schemas.errors import answers
from service.api.schemas.imports import Import, ImportBody, ImportList
from service.errors import UploadTooLarge
from service.handlers.adapters import Terms
from service.handlers.imports import Wanted

router = APIRouter(prefix="/imports", tags=["adapters"])

_MAX_BODY_BYTES = 16 << 10


def is_import(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "application/json"


async def begin_import(
    request: Request, services: Services, tenant: str, convert_rank: int | None, terms: Terms
) -> JSONResponse:
    body = await _read(request)
    wanted = Wanted(tenant, body.name, convert_rank, terms)
    view = await services.imports.begin(body.source, wanted)
    headers = {"Location": f"{API_PREFIX}{router.prefix}/{view.id}"}
    return JSONResponse(Import.of(view).model_dump(mode="json"), 202, headers)


@router.get("", summary="Imports of a tenant, the latest first", responses=answers(403))
async def list_imports(
    services: ServicesDep,
    principal: PublisherDep,
    tenant: Annotated[
        str | None, Query(max_length=63, description="By default the caller's own.")
    ] = None,
) -> ImportList:
    """Those that run, and those that have lately come to their end."""
    views = await services.imports.list(principal, tenant)
    return ImportList(data=[Import.of(view) for view in views])


@router.get("/{import_id}", summary="How an import goes", responses=answers(404))
async def get_import(
    import_id: ImportId, response: Response, services: ServicesDep, principal: PublisherDep
) -> Import:
    """Every replica knows it while Redis does. Without Redis a restart forgets it: what was ready
    is a version of its adapter by then, whose `origin` says so, and anything else is not."""
    response.headers["Cache-Control"] = "no-store"
    return Import.of(await services.imports.get(principal, import_id))


@router.delete(
    "/{import_id}", summary="Stop an import while it is fetched", responses=answers(404, 409)
)
async def stop_import(
    import_id: ImportId, services: ServicesDep, principal: PublisherDep
) -> Import:
    """One that is over stays as it is. One that is being compiled goes on to its end: a 409. If
    another replica runs it, it stops within seconds, and the answer may still show it running."""
    return Import.of(await services.imports.stop(principal, import_id))


async def _read(request: Request) -> ImportBody:
    """No middleware bounds the bodies of this path."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise UploadTooLarge(f"The body is larger than {_MAX_BODY_BYTES} bytes.")
    try:
        return ImportBody.model_validate_json(bytes(body))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError(
            [{**one, "loc": ("body", *one["loc"])} for one in found]
        ) from None
