"""Routes of keys: an admin's, for its own tenant; an operator's for every tenant."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.api.dependencies import AdminDep, ServicesDep
from service.api.parameters import KeyId
from service.api.schemas.errors import answers
from service.api.schemas.keys import DeletedKey, KeyBody, KeyInfo, KeyList, NewKey

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post(
    "",
    status_code=201,
    summary="Make a key; its secret is shown this once",
    responses=answers(404, 507),
)
async def create_key(
    body: KeyBody, response: Response, services: ServicesDep, principal: AdminDep
) -> NewKey:
    key, secret = await services.access.keys.create(principal, body.to_wanted())
    response.headers["Cache-Control"] = "no-store"
    return NewKey.of_secret(key, secret)


@router.get("", summary="Keys that are not revoked, oldest first", responses=answers(404))
async def list_keys(
    services: ServicesDep,
    principal: AdminDep,
    tenant: Annotated[
        str | None, Query(max_length=63, description="By default the caller's own.")
    ] = None,
) -> KeyList:
    keys = services.access.keys
    shown = keys.list(principal, tenant)
    return KeyList(data=[KeyInfo.of(key, is_expired=keys.is_expired(key)) for key in shown])


@router.delete("/{key_id}", summary="Revoke a key at once", responses=answers(404, 507))
async def revoke_key(key_id: KeyId, services: ServicesDep, principal: AdminDep) -> DeletedKey:
    key = await services.access.keys.revoke(principal, key_id)
    return DeletedKey(id=key.id)
