"""The fields that completions and chat share, and what is accepted without being supported."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.core import SamplingParams
from service.errors import InvalidRequest
from service.handlers.binding import Summand
from service.tenancy import MAX_PRIORITY

MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_SUMMANDS = 8
MAX_WEIGHT = 100
MAX_BIASES = 1024
MAX_FIELDS = 256
_INT32 = 1 << 31
MAX_COLD_MS = 24 * 60 * 60 * 1000
_INT64 = 1 << 63

IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
)
"""Fields that cannot change the output of this server."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "min_tokens": (0,),
    "length_penalty": (1.0,),
    "use_beam_search": (False,),
    "early_stopping": (False,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "truncate_prompt_tokens": (),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "structured_outputs": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "response_format": ({"type": "text"},),
}
"""Fields that are not supported, each with the values beside null that ask for nothing."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against guesses from packet sizes; accepted, never sent."""


class SummandBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(max_length=512, description="`name`, `name@version` or `base:name`.")
    weight: float = Field(1.0, ge=-MAX_WEIGHT, le=MAX_WEIGHT)


class SamplingFields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL

    model: str = Field(
        max_length=512,
        description="The base, `name`, `name@version or alias`, `base:name`.",
        examples=["date-iso", "date-iso@1", "date-iso@stable"],
    )
    adapters: list[SummandBody] = Field(
        [],
        min_length=1,
        max_length=MAX_SUMMANDS,
        description="A weighted sum of low-rank adapters on the base, which `model` names then. "
        "Weights of a content that is named twice are added.",
    )
    temperature: float = Field(1.0, ge=0, le=2, description="0 = the most likely token.")
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1, lt=_INT32, description="0 or -1 = all tokens.")
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = Field(None, ge=-_INT64, lt=_INT64)
    n: int = Field(1, ge=1, le=16)
    stop: Annotated[str | list[str], Field(description="Strings that end the text.")] = []
    stop_token_ids: list[int] = Field([], max_length=MAX_STOPS)
    ignore_eos: bool = False
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, max_length=MAX_BIASES
    )
    task_id: int | None = Field(
        None, ge=0, lt=_INT64, description="Which task of a multitask adapter; only for those."
    )
    priority: int | None = Field(
        None,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Lower is earlier, whoever shares the server; by default 0, or the most urgent "
        "that the key allows where that is higher.",
    )
    max_cold_ms: int | None = Field(
        None,
        ge=0,
        le=MAX_COLD_MS,
        description="How long the request waits at most for its adapter to be loaded "
        "(milliseconds); 0 = only if it is in memory. Then 504, or the next field.",
    )
    cold_fallback: str | None = Field(
        None,
        max_length=512,
        description="The model, itself in memory, that answers when max_cold_ms was not enough.",
    )
    user: str | None = Field(
        None,
        max_length=1024,
        description="Who asks: of an alias with weights they always get the same version.",
    )
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _settle_unsupported(cls, body: Any) -> Any:
        """Drops nulls and what has no effect; refuses what would have one."""
        if not isinstance(body, dict):
            return body
        if len(body) > MAX_FIELDS:
            raise InvalidRequest(f"The body has more than {MAX_FIELDS} fields.")
        kept = {}
        for name, value in body.items():
            if name in cls.model_fields:
                if value is not None:
                    kept[name] = value
            elif name in cls.neutral:
                if value is not None and not cls._is_neutral(name, value, body):
                    raise InvalidRequest(f"{name} is not supported with this value.", name)
            elif name not in IGNORED:
                kept[name] = value
        return kept

    @classmethod
    def _is_neutral(cls, name: str, value: Any, body: Mapping[str, Any]) -> bool:  # noqa: ARG003
        return _is_one_of(value, cls.neutral[name])

    @field_validator("stop", "stop_token_ids", "adapters", "logit_bias", mode="before")
    @classmethod
    def _bound_first(cls, value: Any, info: ValidationInfo) -> Any:
        """Before every entry of a list that is refused anyway gets an error of its own."""
        most = {"adapters": MAX_SUMMANDS, "logit_bias": MAX_BIASES}.get(
            str(info.field_name), MAX_STOPS
        )
        if isinstance(value, list | dict) and len(value) > most:
            what = "stop strings" if info.field_name == "stop" else f"entries of {info.field_name}"
            raise InvalidRequest(f"At most {most} {what} are allowed.", info.field_name)
        return value

    @field_validator("stop", mode="after")
    @classmethod
    def _bound_stops(cls, stop: str | list[str]) -> list[str]:
        stops = [stop] if isinstance(stop, str) else stop
        if any(not 0 < len(one) <= MAX_STOP_CHARS for one in stops):
            raise InvalidRequest(f"A stop string has 1 to {MAX_STOP_CHARS} characters.", "stop")
        return stops

    @model_validator(mode="after")
    def _check_stream_options(self) -> "SamplingFields":
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options needs stream: true.", "stream_options")
        return self

    @model_validator(mode="after")
    def _check_fallback(self) -> "SamplingFields":
        if self.cold_fallback is not None and self.max_cold_ms is None:
            raise InvalidRequest("cold_fallback needs max_cold_ms.", "cold_fallback")
        return self

    @property
    def max_cold_s(self) -> float | None:
        return None if self.max_cold_ms is None else self.max_cold_ms / 1000

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(self.stop)

    @property
    def summands(self) -> tuple[Summand, ...]:
        return tuple(Summand(one.name, one.weight) for one in self.adapters)

    def sampling_params(
        self, max_tokens: int, logprobs: int | None, prompt_logprobs: int | None = None
    ) -> SamplingParams:
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=self.temperature,
            # Zero asks for the smallest nucleus, which is the most likely token.
            top_p=self.top_p or 1e-9,
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self._bias(),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            ignore_eos=self.ignore_eos,
            stop_token_ids=tuple(self.stop_token_ids),
        )

    def _bias(self) -> tuple[tuple[int, float], ...]:
        for key in self.logit_bias:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise InvalidRequest("The keys of logit_bias are token ids.", "logit_bias")
        return tuple((int(key), bias) for key, bias in self.logit_bias.items())


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Equality that tells 1 from True, which Python's does not."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)
