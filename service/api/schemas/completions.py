"""The body of `/v1/completions`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator

from service.api.schemas.sampling import NEUTRAL, SamplingFields
from service.errors import InvalidRequest
from service.handlers.generation import MAX_SEQUENCES, GenerationCall
from service.handlers.prompts import Prompt, TextPrompt, TokenPrompt
from service.tenancy import Principal

DEFAULT_MAX_TOKENS = 16

TokenIds = Annotated[list[int], Field(fail_fast=True)]


class CompletionBody(SamplingFields):
    neutral: ClassVar = {**NEUTRAL, "suffix": ("",), "best_of": ()}

    prompt: str | list[str] | TokenIds | list[TokenIds] = Field(
        description="A text, token ids, or a list of either.",
        examples=["March 5, 2024 =>", ["July 14, 1789 =>", "June 6, 1944 =>"], [1, 2, 3]],
    )
    max_tokens: int | None = Field(None, ge=0, lt=1 << 31, description="By default 16.")
    logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token.")
    echo: bool = Field(False, description="Begin the text with the prompt.")

    @classmethod
    def _is_neutral(cls, name: str, value: Any, body: Mapping[str, Any]) -> bool:
        """As many candidates as choices: nothing is selected."""
        if name == "best_of":
            return bool(value == (body.get("n") or 1))
        return super()._is_neutral(name, value, body)

    @field_validator("prompt", mode="wrap")
    @classmethod
    def _name_the_forms(cls, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        """A union's own errors list every member in turn, and every entry of a long list."""
        if isinstance(value, list) and len(value) > MAX_SEQUENCES and not _are_ids(value):
            raise InvalidRequest(f"At most {MAX_SEQUENCES} prompts are allowed.", "prompt")
        try:
            prompt = handler(value)
        except ValidationError:
            raise InvalidRequest(
                "prompt must be a string, a list of strings, token ids or lists of token ids.",
                "prompt",
            ) from None
        if isinstance(prompt, list) and not prompt:
            raise InvalidRequest("prompt must not be an empty list.", "prompt")
        return prompt

    def to_call(
        self, request_id: str, principal: Principal, sticky_key: str = ""
    ) -> GenerationCall:
        max_tokens = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        return GenerationCall(
            request_id=request_id,
            model=self.model,
            adapters=self.summands,
            prompts=self._prompts(),
            params=self.sampling_params(
                max_tokens, self.logprobs, self.logprobs if self.echo else None
            ),
            principal=principal,
            is_shortened_to_fit=self.max_tokens is None,
            n=self.n,
            stop=self.stops,
            task_id=self.task_id,
            priority=self.priority,
            max_cold_s=self.max_cold_s,
            cold_fallback=self.cold_fallback,
            sticky_key=sticky_key or self.user or "",
            echo=self.echo,
        )

    def _prompts(self) -> tuple[Prompt, ...]:
        prompt = self.prompt
        if isinstance(prompt, list) and isinstance(prompt[0], int):
            return (TokenPrompt(tuple(prompt)),)
        several = [prompt] if isinstance(prompt, str) else cast(list[str | list[int]], prompt)
        return tuple(
            TextPrompt(one) if isinstance(one, str) else TokenPrompt(tuple(one)) for one in several
        )


def _are_ids(prompt: list[Any]) -> bool:
    """By the first one; the others are looked at one after the other until one is wrong."""
    return isinstance(prompt[0], int)
