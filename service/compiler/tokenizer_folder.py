"""Tokenizer files as plain data, read from a folder that may lack any of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from service.adapters.safetensors_header import MalformedFile, strict_json

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_MAP = "special_tokens_map.json"
LEGACY_ADDED = "added_tokens.json"
TOKEN_FILES = (TOKENIZER, CONFIG, SPECIAL_MAP, LEGACY_ADDED)
"""What can add tokens."""


class UnreadableFile(Exception):
    """`str(error)` continues a sentence that begins with the file's name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever a malformed file makes the code raise that reads it is that file's fault."""
    try:
        yield
    except (MalformedFile, AttributeError, TypeError, KeyError, ValueError, IndexError) as error:
        detail = f" ({error})" if isinstance(error, MalformedFile) else ""
        raise UnreadableFile(name, f"cannot be read{detail}") from error


class TokenizerFolder:
    """Every method raises `UnreadableFile`."""

    def __init__(self, folder: Path, names: frozenset[str], max_bytes: int | None = None) -> None:
        """Sees the files in `names` only."""
        self._folder = folder
        self._names = names
        self._max_bytes = max_bytes
        self.json = cache(self._json)

    @classmethod
    def of_base(cls, folder: Path) -> "TokenizerFolder":
        return cls(folder, frozenset(path.name for path in folder.iterdir() if path.is_file()))

    def has(self, name: str) -> bool:
        return name in self._names

    def first(self, *names: str) -> str:
        return next(name for name in names if name in self._names)

    def data(self, name: str) -> bytes | None:
        if name not in self._names:
            return None
        path = self._folder / name
        if self._max_bytes is not None and path.stat().st_size > self._max_bytes:
            raise UnreadableFile(name, f"has more than {self._max_bytes} bytes")
        return path.read_bytes()

    def object(self, name: str) -> dict[str, Any]:
        value = self.json(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise UnreadableFile(name, "is not a JSON object")
        return value

    def vocabulary(self) -> dict[str, int] | None:
        """Ids of the model's own tokens, without those that were added to it."""
        plain = self.json("vocab.json")
        if plain is None:
            plain = self._model().get("vocab")
        with reading(TOKENIZER):
            if isinstance(plain, list):
                return {piece: number for number, (piece, _) in enumerate(plain)}
        return plain if isinstance(plain, dict) else None

    def merges(self) -> list[str] | None:
        data = self.data("merges.txt")
        if data is not None:
            with reading("merges.txt"):
                lines = data.decode().splitlines()
            return [line for line in lines if line.strip() and not line.startswith("#version")]
        listed = self._model().get("merges")
        with reading(TOKENIZER):
            return None if listed is None else [merge_text(pair) for pair in listed]

    def _model(self) -> dict[str, Any]:
        model = self.object(TOKENIZER).get("model")
        return model if isinstance(model, dict) else {}

    def _json(self, name: str) -> Any:
        data = self.data(name)
        with reading(name):
            return None if data is None else strict_json(data)


def merge_text(pair: Any) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)
