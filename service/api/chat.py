"""`/v1/chat/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answering import Exchange, new_request_id
from service.api.dependencies import PrincipalDep, RecordDep, ServicesDep, StickyKeyHeader
from service.api.logprobs import chat_logprobs
from service.api.schemas.answers import ChatAnswer, streamed
from service.api.schemas.chat import ChatBody
from service.api.schemas.errors import answers
from service.api.wire import ChatFormat
from service.text import Tokenizer

router = APIRouter(tags=["generation"])


@router.post(
    "/chat/completions",
    summary="Answer a conversation",
    responses=streamed(ChatAnswer) | answers(404, 504),
)
async def create_chat_completion(
    body: ChatBody,
    request: Request,
    services: ServicesDep,
    record: RecordDep,
    principal: PrincipalDep,
    x_sticky_key: StickyKeyHeader = "",
) -> Response:
    def wire(tokenizer: Tokenizer) -> ChatFormat:
        return ChatFormat(partial(chat_logprobs, tokenizer) if body.logprobs else None)

    call = body.to_call(new_request_id(ChatFormat.id_prefix), principal, x_sticky_key)
    exchange = Exchange(request, services, record, wire, call)
    return await exchange.respond(body.stream, body.includes_usage)
