"""What a prompt may be, and how it becomes token ids."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidRequest, PromptTooLong
from service.text import TextForm, Tokenizer

_INLINE_CHARS = 4096
"""Shorter texts are encoded on the event loop: handing them to a thread costs more."""
_CHARS_PER_TOKEN = 64
_MIN_CHARS_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class TextPrompt:
    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    messages: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class _RenderedChat:
    text: str


Prompt = TextPrompt | TokenPrompt | ChatPrompt


async def encode_prompts(
    form: TextForm, prompts: Sequence[Prompt], vocab_size: int, max_chars: int
) -> list[tuple[int, ...]]:
    """Token ids of every prompt.

    Raises `InvalidRequest` for an empty one or an unknown id, `PromptTooLong` for one of more than
    `max_chars` characters, which is neither rendered nor encoded.
    """
    tokenizer = form.tokenizer
    _check_chars(prompts, max_chars)
    rendered = [await _render_own(form, prompt) for prompt in prompts]
    _check_chars(rendered, max_chars)
    if sum(_num_chars(prompt) for prompt in rendered) <= _INLINE_CHARS:
        encoded = [_encode(tokenizer, prompt) for prompt in rendered]
    else:
        encoded = await asyncio.to_thread(
            lambda: [_encode(tokenizer, prompt) for prompt in rendered]
        )
    for prompt, ids in zip(rendered, encoded, strict=True):
        param = "prompt" if isinstance(prompt, TextPrompt | TokenPrompt) else "messages"
        if not ids:
            raise InvalidRequest("The prompt has no tokens.", param)
        check_token_ids(ids, vocab_size, param)
    return encoded


def max_prompt_chars(max_model_len: int) -> int:
    """More than any text that fits the context: its tokens would be that long on average."""
    return max(_MIN_CHARS_LIMIT, max_model_len * _CHARS_PER_TOKEN)


def _check_chars(prompts: Sequence["Prompt | _RenderedChat"], max_chars: int) -> None:
    for prompt in prompts:
        if (num_chars := _num_chars(prompt)) > max_chars:
            raise PromptTooLong(
                f"The prompt has {num_chars} characters; {max_chars} are more than the context"
                " can hold.",
                "prompt" if isinstance(prompt, TextPrompt) else "messages",
            )


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


async def _render_own(form: TextForm, prompt: Prompt) -> Prompt | _RenderedChat:
    if isinstance(prompt, ChatPrompt) and form.render_own_chat is not None:
        return _RenderedChat(await form.render_own_chat(prompt.messages))
    return prompt


def _encode(tokenizer: Tokenizer, prompt: Prompt | _RenderedChat) -> tuple[int, ...]:
    match prompt:
        case TokenPrompt(ids):
            return ids
        case TextPrompt(text):
            return _encode_text(tokenizer, text, True, "prompt")
        case _RenderedChat(text):
            return _encode_text(tokenizer, text, False, "messages")
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


def _num_chars(prompt: Prompt | _RenderedChat) -> int:
    match prompt:
        case TokenPrompt():
            return 0
        case TextPrompt(text) | _RenderedChat(text):
            return len(text)
        case ChatPrompt(messages):
            return sum(len(message.get("content", "")) for message in messages)
