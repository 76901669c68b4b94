"""Gives every adapter version its text: the base's tokenizer and chat template, or its own."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

from service.adapters.files import ADDED_TOKENS, CHAT_TEMPLATE, TEXT_FILES
from service.adapters.own_tokens import OwnTokens
from service.adapters.safetensors_header import MalformedFile
from service.adapters.text_files import text_digest
from service.core import AdapterRef
from service.errors import AdapterLoadFailed, InvalidRequest
from service.templates.conversation import prompt_variables
from service.templates.renderer import TemplateRenderer
from service.tenancy import DEFAULT_TENANT, tenant_of
from service.text import TextForm, Tokenizer

_MAX_TEXTS = 64
"""Kept in memory: a template and a table of added tokens each, which can take megabytes."""
_MAX_FILE_BYTES = 16 << 20

Messages = Sequence[Mapping[str, str]]


class BaseTokenizer(Tokenizer, Protocol):
    """The base's tokenizer, which adapters may extend."""

    @property
    def special_tokens(self) -> dict[str, str]: ...

    def token_id(self, content: str) -> int | None: ...

    def with_own_tokens(self, own: OwnTokens) -> "BaseTokenizer":
        """Raises `ValueError` when the tokens do not fit."""


@dataclass(frozen=True, slots=True)
class _OwnText:
    key: str
    template: str | None
    tokens: OwnTokens
    tokenizer: BaseTokenizer


class AdapterTexts:
    """Implements `service.text.TextSource`."""

    def __init__(
        self,
        tokenizer: BaseTokenizer,
        renderer: TemplateRenderer,
        text_folder: Callable[[str], Path],
    ) -> None:
        """`text_folder` takes a version's digest and tells where its `TEXT_FILES` lie; blocking."""
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._text_folder = text_folder
        self._base = _OwnText("", None, OwnTokens(), tokenizer)
        self._known: OrderedDict[str, _OwnText] = OrderedDict()

    async def form_of(self, adapter: AdapterRef | None) -> TextForm:
        if adapter is None:
            return self._form(self._base, DEFAULT_TENANT)
        if not adapter.parts:
            return self._form(await self._text_of(adapter), tenant_of(adapter.name))
        texts = [await self._text_of(part.ref) for part in adapter.parts]
        return self._common_form(texts, tenant_of(adapter.parts[0].ref.name))

    def _common_form(self, texts: Sequence[_OwnText], owner: str) -> TextForm:
        first = texts[0]
        if any(text.tokens != first.tokens for text in texts):
            raise InvalidRequest(
                "The adapters of this sum have different tokens of their own.", "adapters"
            )
        if any(text.template != first.template for text in texts):
            return TextForm(first.tokenizer, _refuse_chat, self._own_eos_ids(first))
        return self._form(first, owner)

    def _form(self, text: _OwnText, owner: str) -> TextForm:
        if text.template is None:
            return TextForm(text.tokenizer, None, self._own_eos_ids(text))
        render = partial(self._render, owner, text)
        return TextForm(text.tokenizer, render, self._own_eos_ids(text))

    async def _render(self, owner: str, text: _OwnText, messages: Messages) -> str:
        assert text.template is not None
        variables = prompt_variables(messages, text.tokenizer.special_tokens)
        return await self._renderer.render(owner, text.key, text.template, variables)

    def _own_eos_ids(self, text: _OwnText) -> tuple[int, ...]:
        eos = text.tokens.special_tokens.get("eos_token")
        number = text.tokenizer.token_id(eos) if eos is not None else None
        is_own = number is not None and number not in self._tokenizer.eos_token_ids
        return (number,) if number is not None and is_own else ()

    async def _text_of(self, ref: AdapterRef) -> _OwnText:
        if not ref.text_digest:
            return self._base
        if ref.text_digest not in self._known:
            self._known[ref.text_digest] = await asyncio.to_thread(self._read, ref)
            while len(self._known) > _MAX_TEXTS:
                self._known.popitem(last=False)
        self._known.move_to_end(ref.text_digest)
        return self._known[ref.text_digest]

    def _read(self, ref: AdapterRef) -> _OwnText:
        """Raises `AdapterLoadFailed`."""
        try:
            files = dict(_read_files(self._text_folder(ref.digest)))
            if text_digest(files) != ref.text_digest:
                raise ValueError("they are not what was published")
            template = files[CHAT_TEMPLATE].decode() if CHAT_TEMPLATE in files else None
            listed = files.get(ADDED_TOKENS)
            tokens = OwnTokens() if listed is None else OwnTokens.from_bytes(listed)
            tokenizer = self._tokenizer.with_own_tokens(tokens) if tokens else self._tokenizer
        except (OSError, ValueError, MalformedFile) as error:
            message = "The chat template or the tokens of the adapter cannot be read."
            raise AdapterLoadFailed(message) from error
        return _OwnText(ref.text_digest, template, tokens, tokenizer)


async def _refuse_chat(messages: Messages) -> NoReturn:  # noqa: ARG001
    raise InvalidRequest(
        "The adapters of this sum have different chat templates; use /v1/completions.", "adapters"
    )


def _read_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in TEXT_FILES:
        with suppress(FileNotFoundError), (folder / name).open("rb") as file:
            yield name, file.read(_MAX_FILE_BYTES)
