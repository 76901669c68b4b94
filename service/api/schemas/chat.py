"""The body of `/v1/chat/completions`."""

import sys
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from service.api.schemas.sampling import MAX_FIELDS, NEUTRAL, SamplingFields
from service.errors import InvalidRequest
from service.handlers.generation import GenerationCall
from service.handlers.prompts import ChatPrompt
from service.tenancy import Principal

MAX_MESSAGES = 4096
"""Of a conversation, and parts of one message."""

_NEUTRAL_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "tool_calls": ([],),
    "reasoning_content": ("",),
}
"""What an official client sends when it hands an answer back as a message."""


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(description="A string, or a list of parts of type `text`.")
    name: str | None = Field(None, max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _settle_unsupported(cls, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        if len(message) > MAX_FIELDS:
            raise InvalidRequest(f"A message has more than {MAX_FIELDS} fields.", "messages")
        kept = {}
        for name, value in message.items():
            if name not in _NEUTRAL_IN_MESSAGE:
                kept[name] = value
            elif value is not None and value not in _NEUTRAL_IN_MESSAGE[name]:
                raise InvalidRequest(f"{name} in a message is not supported.", "messages")
        return kept

    @field_validator("content", mode="before")
    @classmethod
    def _join_text_parts(cls, content: Any) -> Any:
        if not isinstance(content, list):
            return content
        if len(content) > MAX_MESSAGES:
            raise InvalidRequest(f"At most {MAX_MESSAGES} content parts are allowed.", "messages")
        return "".join(_text_of(part) for part in content)

    def plain(self) -> dict[str, str]:
        """`developer` is the newer name of `system`, which templates know."""
        role = "system" if self.role == "developer" else self.role
        message = {"role": role, "content": self.content}
        return message if self.name is None else {**message, "name": self.name}


class ChatBody(SamplingFields):
    neutral: ClassVar = {
        **NEUTRAL,
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "reasoning_effort": (),
        "verbosity": ("medium",),
        "web_search_options": (),
        "echo": (False,),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "add_special_tokens": (False,),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "documents": ([],),
    }

    messages: list[ChatMessage] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_MESSAGES,
        examples=[[{"role": "user", "content": "March 5, 2024"}]],
    )
    max_tokens: int | None = Field(
        None, ge=1, lt=1 << 31, description="Older name of the next field."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, lt=1 << 31, description="By default the rest of the context."
    )
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token.")

    @model_validator(mode="after")
    def _check_pairs(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true.", "top_logprobs")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise InvalidRequest(
                "max_tokens and max_completion_tokens contradict each other.", "max_tokens"
            )
        return self

    def to_call(
        self, request_id: str, principal: Principal, sticky_key: str = ""
    ) -> GenerationCall:
        limit = self.max_completion_tokens or self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return GenerationCall(
            request_id=request_id,
            model=self.model,
            adapters=self.summands,
            prompts=(ChatPrompt(tuple(message.plain() for message in self.messages)),),
            params=self.sampling_params(limit or sys.maxsize, logprobs),
            principal=principal,
            is_shortened_to_fit=limit is None,
            n=self.n,
            stop=self.stops,
            task_id=self.task_id,
            priority=self.priority,
            max_cold_s=self.max_cold_s,
            cold_fallback=self.cold_fallback,
            sticky_key=sticky_key or self.user or "",
        )


def _text_of(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InvalidRequest("Only content parts of type text are supported.", "messages")
