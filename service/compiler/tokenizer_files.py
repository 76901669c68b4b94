"""Tokenizer files beside an adapter must give the base's ids, since the base's tokenizer is used.

Compared by meaning: formatting, padding, truncation and length limits change no id.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.adapters.files import CHAT_TEMPLATES, TOKENIZER_FILES
from service.adapters.limits import AdapterLimits
from service.adapters.safetensors_header import MalformedFile, strict_json
from service.compiler.refusals import Refusals

_TOKENIZER_PARTS = (
    "model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
)  # fmt: skip
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token")
_ID_FIELDS = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case")


def check_tokenizer_files(
    folder: Path,
    names: tuple[str, ...],
    base_folder: Path,
    limits: AdapterLimits,
    refusals: Refusals,
) -> None:
    own = _TokenizerFolder(folder, limits.max_tokenizer_bytes)
    base = _TokenizerFolder(base_folder, None)
    for name in sorted((TOKENIZER_FILES | CHAT_TEMPLATES) & set(names)):
        try:
            problem = _COMPARISONS[name](own, base)
        except (MalformedFile, UnicodeDecodeError, AttributeError, TypeError, KeyError):
            problem = "cannot be read"
        if problem:
            code = "chat_template" if "template" in problem else "tokenizer_differs"
            refusals.add(code, name, f"{name} {problem}; adapters use the base's own.")


class _TokenizerFolder:
    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def data(self, name: str) -> bytes | None:
        path = self._folder / name
        if not path.is_file():
            return None
        if self._max_bytes is not None and path.stat().st_size > self._max_bytes:
            raise MalformedFile(f"{name} is too large.")
        return path.read_bytes()

    def json(self, name: str) -> Any:
        data = self.data(name)
        return None if data is None else strict_json(data)

    def object(self, name: str) -> dict[str, Any]:
        value = self.json(name) or {}
        if not isinstance(value, dict):
            raise MalformedFile(f"{name} is not a JSON object.")
        return value

    def added_tokens(self) -> dict[str, int]:
        listed = self.object("tokenizer.json").get("added_tokens") or ()
        declared = self.object("tokenizer_config.json").get("added_tokens_decoder") or {}
        return {
            **self.object("added_tokens.json"),
            **{token["content"]: int(number) for number, token in declared.items()},
            **{token["content"]: int(token["id"]) for token in listed},
        }

    def special_tokens(self) -> dict[str, str]:
        merged = {**self.object("special_tokens_map.json"), **self.object("tokenizer_config.json")}
        return {
            name: _content(merged[name]) for name in _SPECIAL_TOKENS if merged.get(name) is not None
        }

    def vocabulary(self) -> dict[str, int] | None:
        plain = self.json("vocab.json")
        if plain is None:
            plain = (self.object("tokenizer.json").get("model") or {}).get("vocab")
        return plain if isinstance(plain, dict) else None

    def merges(self) -> list[str] | None:
        data = self.data("merges.txt")
        if data is not None:
            lines = data.decode().splitlines()
            return [line for line in lines if line.strip() and not line.startswith("#version")]
        listed = (self.object("tokenizer.json").get("model") or {}).get("merges")
        return None if listed is None else [_merge(pair) for pair in listed]

    def chat_template(self) -> str | None:
        """The default one; several named templates never equal a single one."""
        data = self.data("chat_template.jinja")
        if data is not None:
            return data.decode().rstrip("\n")
        template = self.object("chat_template.json").get("chat_template")
        if template is None:
            template = self.object("tokenizer_config.json").get("chat_template")
        return template.rstrip("\n") if isinstance(template, str) else None


_Comparison = Callable[[_TokenizerFolder, _TokenizerFolder], str | None]


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _merge(pair: Any) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _compare_tokenizer(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    mine, theirs = own.object("tokenizer.json"), base.object("tokenizer.json")
    if not theirs:
        return "cannot be compared with the base's tokenizer"
    differing = [part for part in _TOKENIZER_PARTS if _part(mine, part) != _part(theirs, part)]
    return f"differs from the base's in {', '.join(differing)}" if differing else None


def _part(tokenizer: dict[str, Any], part: str) -> Any:
    value = tokenizer.get(part)
    if part == "model" and isinstance(value, dict) and value.get("merges") is not None:
        return {**value, "merges": [_merge(pair) for pair in value["merges"]]}
    return value


def _compare_config(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    mine, theirs = own.object("tokenizer_config.json"), base.object("tokenizer_config.json")
    if mine.get("chat_template") is not None and (problem := _compare_template(own, base)):
        return problem
    for field in _ID_FIELDS:
        if mine.get(field) is not None and mine.get(field) != theirs.get(field):
            return f"differs from the base's in {field}"
    return _compare_special_tokens(own, base) or _compare_added_tokens(own, base)


def _compare_special_tokens(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    theirs = base.special_tokens()
    for name, content in own.special_tokens().items():
        if theirs.get(name) != content:
            return f"differs from the base's in {name}"
    return None


def _compare_added_tokens(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    theirs = {**(base.vocabulary() or {}), **base.added_tokens()}
    for content, number in own.added_tokens().items():
        if theirs.get(content) != number:
            return f"differs from the base's in the token {content[:50]!r}"
    return None


def _compare_vocabulary(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    theirs = base.vocabulary()
    if theirs is None:
        return "cannot be compared with the base's tokenizer"
    return None if own.json("vocab.json") == theirs else "differs from the base's vocabulary"


def _compare_merges(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    theirs = base.merges()
    if theirs is None:
        return "cannot be compared with the base's tokenizer"
    return None if own.merges() == theirs else "differs from the base's merges"


def _compare_sentencepiece(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    theirs = base.data("tokenizer.model")
    if theirs is None:
        return "cannot be compared with the base's tokenizer"
    return None if own.data("tokenizer.model") == theirs else "differs from the base's"


def _compare_template(own: _TokenizerFolder, base: _TokenizerFolder) -> str | None:
    mine = own.chat_template()
    if mine is None or mine != base.chat_template():
        return "holds a chat template that is not the base's, which is not supported yet"
    return None


_COMPARISONS: dict[str, _Comparison] = {
    "tokenizer.json": _compare_tokenizer,
    "tokenizer_config.json": _compare_config,
    "special_tokens_map.json": _compare_special_tokens,
    "added_tokens.json": _compare_added_tokens,
    "vocab.json": _compare_vocabulary,
    "merges.txt": _compare_merges,
    "tokenizer.model": _compare_sentencepiece,
    "chat_template.jinja": _compare_template,
    "chat_template.json": _compare_template,
}
