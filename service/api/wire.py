"""How deltas become JSON: whole bodies, and chunks of a stream.

A chunk is put together from strings that are made once per request: this runs for every token.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any, Protocol

from service.core import FinishReason
from service.handlers.choice import Delta, PlacedLogprob

DONE = "data: [DONE]\n\n"

ToLogprobs = Callable[[Sequence[PlacedLogprob]], dict[str, Any]]

_FINISH = {None: "null", FinishReason.STOP: '"stop"', FinishReason.LENGTH: '"length"'}


@dataclass(frozen=True, slots=True)
class Usage:
    num_prompt_tokens: int
    num_generated_tokens: int
    num_cached_tokens: int = 0
    """Of the prompt tokens."""

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": self.num_generated_tokens,
            "total_tokens": self.num_prompt_tokens + self.num_generated_tokens,
            "prompt_tokens_details": {"cached_tokens": self.num_cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """A whole choice of an answer that is not streamed."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: Sequence[PlacedLogprob]


class WireFormat(Protocol):
    """What differs between completions and chat."""

    object: str
    chunk_object: str

    def whole(self, choice: Choice) -> dict[str, Any]: ...

    def opening(self, index: int) -> str | None:
        """The JSON of a choice's first chunk, before any text."""

    def part(self, delta: Delta) -> str:
        """The JSON of a choice within a chunk."""


class CompletionFormat:
    id_prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, logprobs: ToLogprobs | None) -> None:
        self._logprobs = logprobs

    def whole(self, choice: Choice) -> dict[str, Any]:
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": self._logprobs and self._logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason.value,
        }

    def opening(self, index: int) -> str | None:  # noqa: ARG002
        return None

    def part(self, delta: Delta) -> str:
        logprobs = _dump_logprobs(self._logprobs, delta)
        return (
            f'{{"index":{delta.choice},"text":{encode_basestring_ascii(delta.text)},'
            f'"logprobs":{logprobs},"finish_reason":{_FINISH[delta.finish_reason]}}}'
        )


class ChatFormat:
    id_prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, logprobs: ToLogprobs | None) -> None:
        self._logprobs = logprobs

    def whole(self, choice: Choice) -> dict[str, Any]:
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": self._logprobs and self._logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason.value,
        }

    def opening(self, index: int) -> str | None:
        return (
            f'{{"index":{index},"delta":{{"role":"assistant","content":"","refusal":null}},'
            '"logprobs":null,"finish_reason":null}'
        )

    def part(self, delta: Delta) -> str:
        logprobs = _dump_logprobs(self._logprobs, delta)
        content = f'"content":{encode_basestring_ascii(delta.text)}' if delta.text else ""
        return (
            f'{{"index":{delta.choice},"delta":{{{content}}},'
            f'"logprobs":{logprobs},"finish_reason":{_FINISH[delta.finish_reason]}}}'
        )


class Envelope:
    """What every body and chunk of one answer begins with."""

    def __init__(self, wire: WireFormat, request_id: str, model: str, fingerprint: str) -> None:
        self._wire = wire
        self._fields = {
            "id": request_id,
            "object": wire.object,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        bodies = [self._wire.whole(choice) for choice in choices]
        return {**self._fields, "choices": bodies, "usage": usage.body()}

    def frames(self, includes_usage: bool) -> "Frames":
        head = _compact({**self._fields, "object": self._wire.chunk_object})
        return Frames(self._wire, "data: " + head[:-1], includes_usage)


class Frames:
    """The server-sent events of one streamed answer."""

    def __init__(self, wire: WireFormat, head: str, includes_usage: bool) -> None:
        self._wire = wire
        self._head = head + ',"choices":['
        # Once usage was asked for, every chunk carries the field.
        self._tail = '],"usage":null}\n\n' if includes_usage else "]}\n\n"

    def opening(self, index: int) -> str:
        first = self._wire.opening(index)
        return "" if first is None else f"{self._head}{first}{self._tail}"

    def delta(self, delta: Delta) -> str:
        return f"{self._head}{self._wire.part(delta)}{self._tail}"

    def usage(self, usage: Usage) -> str:
        return f'{self._head}],"usage":{_compact(usage.body())}}}\n\n'


def _dump_logprobs(convert: ToLogprobs | None, delta: Delta) -> str:
    return _compact(convert(delta.logprobs)) if convert and delta.logprobs else "null"


def _compact(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))
