"""What a version's tokenizer has that the base's has not: written by the compiler, read by the
server, which never opens a client's own tokenizer files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from service.adapters.safetensors_header import MalformedFile, strict_json

_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A text that is always one token; the flags are those of `tokenizers.AddedToken`."""

    content: str
    id: int
    special: bool
    normalized: bool
    lstrip: bool
    rstrip: bool
    single_word: bool


@dataclass(frozen=True, slots=True)
class OwnTokens:
    tokens: tuple[AddedToken, ...] = ()
    """By id: new ones, and tokens of the base that are special here alone."""
    special_tokens: Mapping[str, str | None] = field(default_factory=dict)
    """By role (`eos_token`, …) where the version's differs from the base's and has an effect;
    None = it has none."""

    def __bool__(self) -> bool:
        return bool(self.tokens or self.special_tokens)

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "OwnTokens":
        """Raises `MalformedFile`."""
        raw = strict_json(data)
        try:
            special = {str(name): content for name, content in raw["special_tokens"].items()}
            tokens = tuple(_token(one) for one in raw["tokens"])
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedFile("it does not describe tokens") from error
        if not all(content is None or isinstance(content, str) for content in special.values()):
            raise MalformedFile("a special token is no text")
        return cls(tokens, special)


def _token(raw: Mapping[str, Any]) -> AddedToken:
    token = AddedToken(**raw)
    is_typed = isinstance(token.content, str) and type(token.id) is int
    if not is_typed or not all(isinstance(getattr(token, flag), bool) for flag in _FLAGS):
        raise MalformedFile("a token is not described as it should be")
    return token
