"""`/v1/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answering import Exchange, new_request_id
from service.api.dependencies import PrincipalDep, RecordDep, ServicesDep, StickyKeyHeader
from service.api.logprobs import completion_logprobs
from service.api.schemas.answers import CompletionAnswer, streamed
from service.api.schemas.completions import CompletionBody
from service.api.schemas.errors import answers
from service.api.wire import CompletionFormat
from service.text import Tokenizer

router = APIRouter(tags=["generation"])


@router.post(
    "/completions",
    summary="Continue a text",
    responses=streamed(CompletionAnswer) | answers(404, 504),
)
async def create_completion(
    body: CompletionBody,
    request: Request,
    services: ServicesDep,
    record: RecordDep,
    principal: PrincipalDep,
    x_sticky_key: StickyKeyHeader = "",
) -> Response:
    def wire(tokenizer: Tokenizer) -> CompletionFormat:
        to_logprobs = partial(completion_logprobs, tokenizer)
        return CompletionFormat(None if body.logprobs is None else to_logprobs)

    call = body.to_call(new_request_id(CompletionFormat.id_prefix), principal, x_sticky_key)
    exchange = Exchange(request, services, record, wire, call)
    return await exchange.respond(body.stream, body.includes_usage)
