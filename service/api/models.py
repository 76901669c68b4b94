"""The model list, as OpenAI's clients read it."""

from typing import Any

from fastapi import APIRouter

from service.adapters.naming import written_digest
from service.api.dependencies import PrincipalDep, Services, ServicesDep
from service.api.parameters import ModelPath
from service.api.schemas.answers import ModelCard, ModelList
from service.api.schemas.errors import answers
from service.handlers.models import ModelEntry

router = APIRouter(tags=["models"])


@router.get(
    "/models",
    summary="The base and every adapter",
    responses={200: {"model": ModelList}},
)
async def list_models(services: ServicesDep, principal: PrincipalDep) -> dict[str, Any]:
    cards = [_card(services, entry) for entry in services.models.list(principal)]
    return {"object": "list", "data": cards}


@router.get(
    "/models/{model:path}",
    summary="One model; `name@version` too",
    responses={200: {"model": ModelCard}, **answers(404)},
)
async def get_model(
    model: ModelPath, services: ServicesDep, principal: PrincipalDep
) -> dict[str, Any]:
    return _card(services, services.models.find(principal, model))


def _card(services: Services, entry: ModelEntry) -> dict[str, Any]:
    card: dict[str, Any] = {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": "repertoire",
        "root": entry.id,
        "parent": entry.parent,
        "max_model_len": services.base.max_model_len,
        "permission": [],
    }
    if entry.version is not None:
        card["version"] = entry.version
    if entry.digest is not None:
        card["digest"] = written_digest(entry.digest)
    return card
