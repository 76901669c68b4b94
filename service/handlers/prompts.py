"""What a prompt may be, and how it becomes token ids."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidRequest
from service.text import Tokenizer

_INLINE_CHARS = 4096
"""Shorter texts are encoded on the event loop: handing them to a thread costs more."""


@dataclass(frozen=True, slots=True)
class TextPrompt:
    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    messages: tuple[Mapping[str, str], ...]


Prompt = TextPrompt | TokenPrompt | ChatPrompt


async def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], vocab_size: int
) -> list[tuple[int, ...]]:
    """Token ids of every prompt. Raises `InvalidRequest` for an empty one or an unknown id."""
    if sum(_num_chars(prompt) for prompt in prompts) <= _INLINE_CHARS:
        encoded = [_encode(tokenizer, prompt) for prompt in prompts]
    else:
        encoded = await asyncio.to_thread(
            lambda: [_encode(tokenizer, prompt) for prompt in prompts]
        )
    for prompt, ids in zip(prompts, encoded, strict=True):
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        if not ids:
            raise InvalidRequest("The prompt has no tokens.", param)
        check_token_ids(ids, vocab_size, param)
    return encoded


def check_token_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    if ids and (min(ids) < 0 or max(ids) >= vocab_size):
        wrong = next(one for one in ids if not 0 <= one < vocab_size)
        raise InvalidRequest(
            f"Token id {wrong} is outside the vocabulary of {vocab_size} tokens.", param
        )


def echo_text(tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int]) -> str:
    """What `echo` shows of a prompt: the text as it was sent, if it was sent as text."""
    if isinstance(prompt, TextPrompt):
        return prompt.text
    return tokenizer.decode(ids, skip_special_tokens=True)


def _encode(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    match prompt:
        case TokenPrompt(ids):
            return ids
        case TextPrompt(text):
            return _encode_text(tokenizer, text, True, "prompt")
        case ChatPrompt(messages):
            return _encode_text(tokenizer, tokenizer.render_chat(messages), False, "messages")


def _encode_text(
    tokenizer: Tokenizer, text: str, add_special_tokens: bool, param: str
) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode(text, add_special_tokens))
    except UnicodeEncodeError:
        # JSON can spell half of a surrogate pair, which no tokenizer can read.
        raise InvalidRequest("The text is not valid Unicode.", param) from None


def _num_chars(prompt: Prompt) -> int:
    match prompt:
        case TokenPrompt():
            return 0
        case TextPrompt(text):
            return len(text)
        case ChatPrompt(messages):
            return sum(len(message.get("content", "")) for message in messages)
