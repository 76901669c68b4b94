"""Tokenizer files beside an adapter must split text as the base's do, added tokens aside.

Compared by meaning: formatting, padding, truncation and length limits change no id.
"""

from collections.abc import Callable
from typing import Any

from service.compiler.refusals import Refusals
from service.compiler.tokenizer_folder import (
    CONFIG,
    TOKENIZER,
    TokenizerFolder,
    merge_text,
    reading,
)

_TOKENIZER_PARTS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder")
_ID_FIELDS = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case")
_ID_SWITCHES = ("split_special_tokens",)
"""Off when they are not there."""


def gives_same_ids(own: TokenizerFolder, base: TokenizerFolder, refusals: Refusals) -> bool:
    """Adds a reason for every file that does not. Raises `UnreadableFile`."""
    is_same = True
    for name, compare in _COMPARISONS.items():
        problem = compare(own, base) if own.has(name) else None
        if problem:
            message = f"{name} {problem}; only added tokens may differ."
            refusals.add("tokenizer_differs", name, message)
            is_same = False
    return is_same


_Comparison = Callable[[TokenizerFolder, TokenizerFolder], str | None]
_INCOMPARABLE = "cannot be compared with the base's tokenizer"


def _compare_tokenizer(own: TokenizerFolder, base: TokenizerFolder) -> str | None:
    mine, theirs = own.object(TOKENIZER), base.object(TOKENIZER)
    if not theirs:
        return _INCOMPARABLE
    with reading(TOKENIZER):
        differing = [part for part in _TOKENIZER_PARTS if _part(mine, part) != _part(theirs, part)]
    return f"differs from the base's in {', '.join(differing)}" if differing else None


def _part(tokenizer: dict[str, Any], part: str) -> Any:
    value = tokenizer.get(part)
    if part == "model" and isinstance(value, dict) and value.get("merges") is not None:
        return {**value, "merges": [merge_text(pair) for pair in value["merges"]]}
    return value


def _compare_config(own: TokenizerFolder, base: TokenizerFolder) -> str | None:
    mine, theirs = own.object(CONFIG), base.object(CONFIG)
    for field in _ID_FIELDS:
        if mine.get(field) is not None and mine.get(field) != theirs.get(field):
            return f"differs from the base's in {field}"
    for switch in _ID_SWITCHES:
        if bool(mine.get(switch)) != bool(theirs.get(switch)):
            return f"differs from the base's in {switch}"
    return None


def _compare_vocabulary(own: TokenizerFolder, base: TokenizerFolder) -> str | None:
    theirs = base.vocabulary()
    if theirs is None:
        return _INCOMPARABLE
    return None if own.json("vocab.json") == theirs else "differs from the base's vocabulary"


def _compare_merges(own: TokenizerFolder, base: TokenizerFolder) -> str | None:
    theirs = base.merges()
    if theirs is None:
        return _INCOMPARABLE
    return None if own.merges() == theirs else "differs from the base's merges"


def _compare_sentencepiece(own: TokenizerFolder, base: TokenizerFolder) -> str | None:
    theirs = base.data("tokenizer.model")
    if theirs is None:
        return _INCOMPARABLE
    return None if own.data("tokenizer.model") == theirs else "differs from the base's"


_COMPARISONS: dict[str, _Comparison] = {
    TOKENIZER: _compare_tokenizer,
    CONFIG: _compare_config,
    "vocab.json": _compare_vocabulary,
    "merges.txt": _compare_merges,
    "tokenizer.model": _compare_sentencepiece,
}
