"""The model list, as OpenAI's clients read it.

A list has no pages there, so cards are put together from strings: two thousand of them are to hold
up no stream.
"""

from json.encoder import encode_basestring_ascii as quoted

from fastapi import APIRouter
from starlette.responses import Response

from service.adapters.naming import written_digest
from service.api.dependencies import PrincipalDep, ServicesDep
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
async def list_models(services: ServicesDep, principal: PrincipalDep) -> Response:
    length = services.base.max_model_len
    cards = ",".join(_card(entry, length) for entry in services.models.list(principal))
    return _json(f'{{"object":"list","data":[{cards}]}}')


@router.get(
    "/models/{model:path}",
    summary="One model; `name@version` too",
    responses={200: {"model": ModelCard}, **answers(404)},
)
async def get_model(model: ModelPath, services: ServicesDep, principal: PrincipalDep) -> Response:
    entry = services.models.find(principal, model)
    return _json(_card(entry, services.base.max_model_len))


def _card(entry: ModelEntry, max_model_len: int) -> str:
    """A `ModelCard`; what the base does not have is left out."""
    name = quoted(entry.id)
    parent = "null" if entry.parent is None else quoted(entry.parent)
    version = "" if entry.version is None else f',"version":{entry.version}'
    digest = "" if entry.digest is None else f',"digest":"{written_digest(entry.digest)}"'
    return (
        f'{{"id":{name},"object":"model","created":{entry.created},"owned_by":"repertoire",'
        f'"root":{name},"parent":{parent},"max_model_len":{max_model_len},"permission":[]'
        f"{version}{digest}}}"
    )


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")
