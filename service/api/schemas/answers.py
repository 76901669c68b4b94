"""The bodies of answers that are put together by hand, for the OpenAPI document alone."""

from typing import Any, Literal

from pydantic import BaseModel


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class UsageBody(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class CompletionAnswer(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageBody


class AssistantMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatAnswer(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageBody


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int
    permission: list[Any]
    version: int | None = None
    digest: str | None = None


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class ProbeAnswer(BaseModel):
    status: str
    reasons: list[str] | None = None
    """Why a server that takes requests is `degraded`."""


_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "A chunk as JSON, or [DONE]."}},
}


_TIMING: dict[str, Any] = {
    "x-adapter-tier": {
        "description": "Where the adapter was when it was asked for; absent for the base.",
        "schema": {"type": "string", "enum": ["device", "host", "disk"]},
    },
    "server-timing": {
        "description": "Milliseconds of queue, load, prefill and, in whole answers, decode.",
        "schema": {"type": "string"},
    },
}


def streamed(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Of a route that answers with one body, or with `stream` as events."""
    return {
        200: {
            "model": model,
            "description": "The answer; with `stream`, server-sent events that end with [DONE].",
            "content": {"text/event-stream": {"schema": _EVENT}},
            "headers": dict(_TIMING),
        }
    }
