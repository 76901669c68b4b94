"""Routes that move the pointers of a name, and the ETag that tells whether they were moved."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.api.dependencies import PublisherDep, ServicesDep
from service.api.parameters import AdapterName, OwnedBy
from service.api.schemas.adapters import Adapter
from service.api.schemas.aliases import MoveBody
from service.api.schemas.errors import answers
from service.errors import InvalidRequest
from service.handlers.adapter_views import AdapterView
from service.handlers.adapters import AdapterService
from service.tenancy import Principal

router = APIRouter(prefix="/adapters", tags=["adapters"])

_TAG = r'(?:W/)?"[^"\x00-\x20\x7f]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")
_OURS = re.compile(r'(?<!W/)"([0-9]{1,18})"')

IfMatch = Annotated[
    str | None,
    Header(
        description="ETags of the adapter as it was seen; a stale one is a 412.",
        examples=['"7"', "*"],
    ),
]


@router.patch(
    "/{name}",
    summary="Move the current version and aliases, pin the name or let it end, together",
    responses=answers(404, 409, 412, 422, 507),
)
async def move_pointers(
    name: AdapterName,
    body: MoveBody,
    response: Response,
    services: ServicesDep,
    principal: PublisherDep,
    if_match: IfMatch = None,
    tenant: OwnedBy = None,
) -> Adapter:
    wanted = body.to_move()
    adapters: AdapterService = services.adapters
    owned = adapters.visible.owned(principal, name, tenant)
    view = await adapters.aliases.move(owned, wanted, expected(if_match))
    return answer(view, response, principal)


@router.post(
    "/{name}/rollback",
    summary="Back to the version that was current before",
    responses=answers(404, 409, 412, 507),
)
async def roll_back(
    name: AdapterName,
    response: Response,
    services: ServicesDep,
    principal: PublisherDep,
    if_match: IfMatch = None,
    tenant: OwnedBy = None,
) -> Adapter:
    """Called again, it goes back further. What it left is reached by PATCH or by its number."""
    adapters: AdapterService = services.adapters
    owned = adapters.visible.owned(principal, name, tenant)
    view = await adapters.aliases.rollback(owned, expected(if_match))
    return answer(view, response, principal)


def etag(revision: int) -> str:
    return f'"{revision}"'


def answer(view: AdapterView, response: Response, principal: Principal) -> Adapter:
    response.headers["ETag"] = etag(view.revision)
    return Adapter.of(view, principal)


def expected(if_match: str | None) -> frozenset[int] | None:
    """Revisions that may be changed; weak tags and those of others match nothing (RFC 9110)."""
    if if_match is None or if_match.strip() == "*":
        return None
    if _TAGS.fullmatch(if_match) is None:
        raise InvalidRequest("If-Match holds no list of ETags.", "If-Match")
    return frozenset(map(int, _OURS.findall(if_match)))
