"""Which tokens a folder's files make, as `PreTrainedTokenizerBase._from_pretrained` reads them.

Source: transformers 5.23, `tokenization_utils_base.py` and `tokenization_utils_tokenizers.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.adapters.own_tokens import AddedToken
from service.adapters.safetensors_header import MalformedFile
from service.compiler.tokenizer_folder import (
    CONFIG,
    LEGACY_ADDED,
    SPECIAL_MAP,
    TOKENIZER,
    TokenizerFolder,
    UnreadableFile,
    reading,
)
from service.templates.conversation import SPECIAL_TOKENS


@dataclass(frozen=True, slots=True)
class DeclaredToken:
    token: AddedToken
    file: str


@dataclass(frozen=True, slots=True)
class SpecialToken:
    content: str | None
    file: str


@dataclass(frozen=True, slots=True)
class DeclaredTokens:
    added: dict[str, DeclaredToken]
    """By content."""
    special: dict[str, SpecialToken]
    """By role: `eos_token`, …"""
    nameless: dict[str, str]
    """What is called special but has no id anywhere: content → file."""


def declared_tokens(
    files: TokenizerFolder,
    vocabulary: Mapping[str, int],
    known: Mapping[str, DeclaredToken] | None = None,
) -> DeclaredTokens:
    """`vocabulary` and `known` stand for what the files leave out.

    Raises `UnreadableFile`.
    """
    special, extra = special_tokens(files), dict(_extra_tokens(files))
    added = _added_tokens(files, {one.content for one in special.values()} | set(extra))
    known = known or {}
    if not files.has(TOKENIZER):
        added = {content: _settled(one, known.get(content)) for content, one in added.items()}
    nameless: dict[str, str] = {}
    for one in special.values():
        if one.content is None:
            continue
        if (listed := added.get(one.content) or known.get(one.content)) is not None:
            if not listed.token.special:
                token = replace(listed.token, special=True)
                added[one.content] = DeclaredToken(token, one.file)
        elif one.content in vocabulary:
            raw = {"content": one.content, "special": True}
            added[one.content] = DeclaredToken(_token(raw, vocabulary[one.content]), one.file)
        else:
            nameless[one.content] = one.file
    for content, file in extra.items():
        if content not in added and content not in known:
            nameless[content] = file
    return DeclaredTokens(added, special, nameless)


def special_tokens(files: TokenizerFolder) -> dict[str, SpecialToken]:
    """By role. Raises `UnreadableFile`."""
    return dict(_special_tokens(files))


def _added_tokens(files: TokenizerFolder, special: set[str | None]) -> dict[str, DeclaredToken]:
    """Where two files describe the same token, the later one holds."""
    added: dict[str, DeclaredToken] = {}
    contents: dict[int, str] = {}
    for one in (*_from_config(files, special), *_from_tokenizer(files)):
        content, number = one.token.content, one.token.id
        if contents.setdefault(number, content) != content:
            raise UnreadableFile(one.file, f"gives two tokens the id {number}")
        if content in added and added[content].token.id != number:
            raise UnreadableFile(one.file, f"gives the token {content[:50]!r} a second id")
        if content:
            added[content] = one
    return added


def _settled(listed: DeclaredToken, known: DeclaredToken | None) -> DeclaredToken:
    """Beside the known tokens' `tokenizer.json`, which has the last word on the same token."""
    is_same = known is not None and known.token.id == listed.token.id
    return known if known is not None and is_same else listed


def _from_config(files: TokenizerFolder, special: set[str | None]) -> list[DeclaredToken]:
    config = files.object(CONFIG)
    if "added_tokens_decoder" in config:
        with reading(CONFIG):
            return [
                DeclaredToken(_token(raw, int(number)), CONFIG)
                for number, raw in config["added_tokens_decoder"].items()
            ]
    with reading(LEGACY_ADDED):
        return [
            DeclaredToken(
                _token({"content": content, "special": content in special}, int(number)),
                LEGACY_ADDED,
            )
            for content, number in files.object(LEGACY_ADDED).items()
        ]


def _from_tokenizer(files: TokenizerFolder) -> list[DeclaredToken]:
    with reading(TOKENIZER):
        return [
            DeclaredToken(
                _token({k: v for k, v in raw.items() if k != "id"}, int(raw["id"])), TOKENIZER
            )
            for raw in files.object(TOKENIZER).get("added_tokens") or ()
        ]


def _special_tokens(files: TokenizerFolder) -> Iterator[tuple[str, SpecialToken]]:
    """The map counts only beside a config of the older form, and then more than the config."""
    config = files.object(CONFIG)
    with reading(CONFIG):
        for name, value in config.items():
            is_role = name in SPECIAL_TOKENS
            if is_role or (name.endswith("_token") and isinstance(value, str)):
                yield name, SpecialToken(_content(value), CONFIG)
    if "added_tokens_decoder" in config:
        return
    with reading(SPECIAL_MAP):
        for name, value in files.object(SPECIAL_MAP).items():
            if name in SPECIAL_TOKENS:
                yield name, SpecialToken(_content(value), SPECIAL_MAP)


def _extra_tokens(files: TokenizerFolder) -> Iterator[tuple[str, str]]:
    for file in (SPECIAL_MAP, CONFIG):
        for name in ("extra_special_tokens", "additional_special_tokens"):
            with reading(file):
                listed = files.object(file).get(name) or ()
                values = listed.values() if isinstance(listed, dict) else listed
                contents = [_content(value) for value in values]
            yield from ((content, file) for content in contents if content)


def _content(value: Any) -> str | None:
    content = value["content"] if isinstance(value, dict) else value
    if content is not None and not isinstance(content, str):
        raise MalformedFile("a special token is no text")
    return content


def _token(raw: Mapping[str, Any], number: int) -> AddedToken:
    """Raises `TypeError` for a field that no token has."""
    fields = {name: value for name, value in raw.items() if name != "__type"}
    fields.setdefault("special", False)
    fields.setdefault("normalized", not fields["special"])
    for name in ("lstrip", "rstrip", "single_word"):
        fields.setdefault(name, False)
    token = AddedToken(id=number, **fields)
    token.content.encode()  # half a surrogate pair cannot be part of any text
    return token
