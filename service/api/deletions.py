"""Routes of what is deleted: delete, restore, and free what nobody can restore any more."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.adapters.naming import Selector, parse_selector
from service.api.aliases import IfMatch, answer, etag, expected
from service.api.dependencies import OperatorDep, PublisherDep, ServicesDep
from service.api.parameters import AdapterName, AdapterSelector, OwnedBy
from service.api.schemas.adapters import Adapter
from service.api.schemas.deletions import Collected, DeletedAdapter, RestoreBody
from service.api.schemas.errors import answers
from service.errors import InvalidRequest
from service.handlers.adapters import AdapterService
from service.tenancy import bare_name

router = APIRouter(tags=["adapters"])


@router.delete(
    "/adapters/{name}",
    summary="Delete an adapter, or one version of it",
    responses=answers(404, 409, 412, 507),
)
async def delete_adapter(
    name: AdapterSelector,
    response: Response,
    services: ServicesDep,
    principal: PublisherDep,
    if_match: IfMatch = None,
    tenant: OwnedBy = None,
) -> DeletedAdapter:
    """`name` goes with all versions and aliases; `name@3` or `name@sha256:…` is one version, and a
    409 while a pointer leads to it. Both can be restored for a while."""
    adapters: AdapterService = services.adapters
    owned = adapters.visible.owned_model(principal, name, tenant)
    wanted = parse_selector(owned)
    number = None
    if wanted is None or wanted == Selector(owned):
        revision = await adapters.deletions.delete(owned, expected(if_match))
    elif wanted.alias is not None:
        raise InvalidRequest(
            f"{name!r} is an alias; a PATCH of {bare_name(wanted.name)!r} with"
            f' {{"aliases": {{"{wanted.alias}": null}}}} removes it.',
            "name",
        )
    else:
        number, revision = await adapters.deletions.delete_version(wanted, expected(if_match))
    response.headers["ETag"] = etag(revision)
    return DeletedAdapter(name=name.partition("@")[0], version=number)


@router.post(
    "/adapters/{name}/restore",
    summary="Bring back what was deleted",
    responses=answers(404, 409, 412, 507),
)
async def restore_adapter(
    name: AdapterName,
    response: Response,
    services: ServicesDep,
    principal: PublisherDep,
    body: RestoreBody | None = None,
    if_match: IfMatch = None,
    tenant: OwnedBy = None,
) -> Adapter:
    """With a version, that one; without, the whole name as it was when it was deleted."""
    adapters: AdapterService = services.adapters
    number = None if body is None else body.version
    claimed = adapters.visible.claimed(principal, name, tenant)
    view = await adapters.deletions.restore(claimed, number, expected(if_match))
    return answer(view, response, principal)


# No name holds a colon, so this path is never an adapter's.
@router.post(
    "/adapters:gc",
    summary="Free what is deleted and can no longer be restored",
    responses=answers(507),
)
async def collect_garbage(
    services: ServicesDep,
    _: OperatorDep,
    dry_run: Annotated[bool, Query(description="Only say what would be freed.")] = False,
) -> Collected:
    """The server does it by itself at start, every hour, and when the store is full."""
    adapters: AdapterService = services.adapters
    freed = await adapters.deletions.collect(is_dry_run=dry_run)
    return Collected.of(freed, is_dry_run=dry_run)
