"""Originals by digest, and compiled forms by name: where the bytes of a fleet lie.

A content is written once and never changed, so its name is its identity on every replica.
"""

from pathlib import Path
from typing import Protocol

from service.adapters.compiling import CompileOutcome
from service.adapters.manifest import Manifest


class Originals(Protocol):
    """Blocking and thread-safe."""

    def digests(self) -> list[str]:
        """Of every complete original, sorted; one listing of the store."""

    def has(self, digest: str) -> bool:
        """Asks the store itself: another replica may have added or removed it just now."""

    def manifest(self, digest: str) -> Manifest | None:
        """None when there is no such original, or its summary is damaged."""

    def num_bytes(self, digest: str) -> int:
        """0 when there is no such original."""

    def add(self, outcome: CompileOutcome) -> None:
        """Durable when it returns; the same again changes nothing. Leaves the files of `outcome`
        readable. Raises `StoreFull` or `StoreUnavailable`."""

    def folder(self, digest: str) -> Path:
        """A local folder with its files, fetched if need be. Raises `AdapterLoadFailed`."""

    def remove(self, digest: str) -> "Removed":
        """It is gone for everybody when this returns."""


class Removed(Protocol):
    """What was removed a moment ago, kept on this machine until the remover has looked again."""

    def put_back(self) -> None: ...

    def forget(self) -> None: ...


class SharedForms(Protocol):
    """Compiled forms that one replica made for all. Blocking and thread-safe."""

    def fetch(self, name: str, target: Path) -> bool:
        """Copy the form of that file name to `target`; False when the store has none, or cannot be
        asked: whoever needs it then makes it."""

    def put(self, name: str, compiled: Path) -> None:
        """Raises `StoreFull` or `StoreUnavailable`."""

    def drop(self, digest: str) -> None:
        """Every form of it, whatever base and compiler it was made for."""
