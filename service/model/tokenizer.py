"""transformers' tokenizer behind the protocol of `service/text.py`."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from service.adapters.own_tokens import AddedToken, OwnTokens
from service.errors import InvalidRequest

_NUM_KNOWN_TEXTS = 1 << 14
"""Texts of lone tokens that are remembered: detokenizing asks for one with every token."""


class HFTokenizer:
    """Stateless after construction, so it may be called from several threads."""

    def __init__(self, tokenizer: Any, eos_token_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._added = frozenset(tokenizer.added_tokens_decoder)
        self._special = frozenset(tokenizer.all_special_ids) | frozenset(
            token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special
        )
        self.vocab_size = len(tokenizer)
        self._is_byte_level = _decodes_bytes(tokenizer)
        self._decode = _decoder(tokenizer)
        self._text_of = lru_cache(_NUM_KNOWN_TEXTS)(self._decode_one)
        fallback = tokenizer.eos_token_id
        self.eos_token_ids = eos_token_ids or frozenset([fallback] if fallback is not None else [])

    @property
    def special_tokens(self) -> dict[str, str]:
        """By role (`eos_token`, …): what chat templates find under these names."""
        roles: dict[str, str] = self._tokenizer.special_tokens_map
        return roles

    def with_own_tokens(self, own: OwnTokens) -> "HFTokenizer":
        """The base's tokenizer with an adapter's tokens; shares the vocabulary, so it is cheap.

        Raises `ValueError` when a token would not get its id.
        """
        backend = tokenizers.Tokenizer(self._tokenizer.backend_tokenizer.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            setattr(backend, part, getattr(self._tokenizer.backend_tokenizer, part))
        added = dict(self._tokenizer.added_tokens_decoder)
        added |= {token.id: _added_token(token) for token in own.tokens}
        # The ids follow from the order.
        backend.add_tokens([added[number] for number in sorted(added)])
        if {number: str(token) for number, token in added.items()} != {
            number: str(token) for number, token in backend.get_added_tokens_decoder().items()
        }:
            raise ValueError("the tokens do not fit the base's tokenizer")
        tokenizer = copy.copy(self._tokenizer)
        tokenizer._tokenizer = backend
        tokenizer._special_tokens_map = {**tokenizer._special_tokens_map, **own.special_tokens}
        return HFTokenizer(tokenizer, self.eos_token_ids)

    def token_id(self, content: str) -> int | None:
        """Of a whole token."""
        number: int | None = self._tokenizer.backend_tokenizer.token_to_id(content)
        return number

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        if len(ids) == 1:
            return self._text_of(ids[0], skip_special_tokens)
        return self._decode(ids, skip_special_tokens=skip_special_tokens)

    def _decode_one(self, token_id: int, skip_special_tokens: bool) -> str:
        return self._decode([token_id], skip_special_tokens=skip_special_tokens)

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special

    def token_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:
            return b""
        if token_id in self._added:
            return str(token).encode()
        if self._is_byte_level:
            return bytes(_BYTE_OF[character] for character in token)
        if len(token) == 6 and token.startswith("<0x"):
            return bytes([int(token[3:5], 16)])
        return str(token).replace("\u2581", " ").encode()

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        if not getattr(self._tokenizer, "chat_template", None):
            raise InvalidRequest(
                "The base model has no chat template; use /v1/completions.", "messages"
            )
        try:
            prompt: str = self._tokenizer.apply_chat_template(
                [dict(one) for one in messages], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidRequest(f"The chat template refuses: {reason}", "messages") from error
        return prompt


def _added_token(token: AddedToken) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _decoder(tokenizer: Any) -> Callable[..., str]:
    """The library below transformers, which makes sure of types for as long as ten tokens take to
    decode; but for classes that decode in a way of their own."""
    own = type(tokenizer)
    is_usual = own.decode is PreTrainedTokenizerBase.decode and (
        getattr(own, "_decode", None) is PreTrainedTokenizerFast._decode
    )
    decode: Callable[..., str] = (
        tokenizer.backend_tokenizer.decode
        if is_usual
        else partial(tokenizer.decode, clean_up_tokenization_spaces=False)
    )
    return decode


def _decodes_bytes(tokenizer: Any) -> bool:
    """Whether vocabulary entries are spelled in GPT-2's stand-ins for bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str())["decoder"] if backend is not None else None
    return "ByteLevel" in json.dumps(decoder)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, as byte-level vocabularies spell them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
