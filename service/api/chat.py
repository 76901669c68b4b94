"""`/v1/chat/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answering import Exchange, new_request_id
from service.api.dependencies import RecordDep, ServicesDep
from service.api.logprobs import chat_logprobs
from service.api.schemas.chat import ChatBody
from service.api.wire import ChatFormat

router = APIRouter(tags=["generation"])


@router.post("/chat/completions", summary="Answer a conversation", response_class=Response)
async def create_chat_completion(
    body: ChatBody, request: Request, services: ServicesDep, record: RecordDep
) -> Response:
    to_logprobs = partial(chat_logprobs, services.generation.tokenizer)
    wire = ChatFormat(to_logprobs if body.logprobs else None)
    exchange = Exchange(request, services, record, wire, body.to_call(new_request_id(wire)))
    return await exchange.respond(body.stream, body.includes_usage)
