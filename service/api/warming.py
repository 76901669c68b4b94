"""The route that brings an adapter into memory before anybody waits for it."""

from fastapi import APIRouter, Request, Response

from service.api.dependencies import PublisherDep, ServicesDep
from service.api.disconnect import ClientGone, unless_disconnected
from service.api.middleware import CLIENT_GONE
from service.api.parameters import AdapterSelector, OwnedBy, addressed
from service.api.schemas.errors import answers
from service.api.schemas.warming import WarmBody, WarmedAdapter

router = APIRouter(prefix="/adapters", tags=["adapters"])


@router.post(
    "/{name}/warm",
    summary="Bring an adapter into memory",
    response_model=None,
    responses={200: {"model": WarmedAdapter}, **answers(404, 504)},
)
async def warm_adapter(
    name: AdapterSelector,
    request: Request,
    services: ServicesDep,
    principal: PublisherDep,
    body: WarmBody | None = None,
    tenant: OwnedBy = None,
) -> Response | WarmedAdapter:
    """`name` may say a version or an alias. Answers when it is there; nothing keeps it there."""
    wanted = body or WarmBody.model_validate({})
    work = services.warmer.warm(
        addressed(name, tenant), wanted.tier, wanted.timeout_s, principal=principal
    )
    try:
        return WarmedAdapter.of(await unless_disconnected(request, work))
    except ClientGone:
        return Response(status_code=CLIENT_GONE)
