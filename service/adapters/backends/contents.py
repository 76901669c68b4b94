"""Originals by digest, and compiled forms by name: where the bytes of a fleet lie.

A content is written once and never changed, so its name is its identity on every replica.

Who publishes appends his record and then looks again whether the original is still there; who
removes one takes it away and then looks again whether a record speaks of it. Whatever the order,
one of the two sees what the other did, and puts the original back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.adapters.compiling import CompileOutcome
from service.adapters.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Stored:
    num_bytes: int
    """Without the summary of an original."""
    written_at: float
    """Unix seconds, by the store's clock."""


class Removed(Protocol):
    """An original that was taken away and is kept aside, in the store, until its remover has looked
    again; or for whoever collects after him, when he died over it."""

    @property
    def digest(self) -> str: ...

    @property
    def removed_at(self) -> float:
        """Unix seconds, by the store's clock."""

    def put_back(self) -> None: ...

    def forget(self) -> None: ...


class Originals(Protocol):
    """Blocking and thread-safe. Everything may raise `StoreUnavailable`."""

    def listing(self) -> Mapping[str, Stored]:
        """Whatever lies there, by digest; half-written ones too, unless `removed` has them."""

    def has(self, digest: str) -> bool:
        """Whether it is there and complete. Asks the store itself: another replica may have added
        or removed it just now."""

    def manifest(self, digest: str) -> Manifest | None:
        """None when there is no such original, or its summary is damaged."""

    def add(self, outcome: CompileOutcome) -> None:
        """Durable when it returns; the same again changes nothing. Leaves the files of `outcome`
        as they are. Raises `StoreFull`."""

    def folder(self, digest: str) -> Path:
        """A local folder with its files, fetched if need be. Raises `AdapterLoadFailed`."""

    def text_folder(self, digest: str) -> Path:
        """The same of a folder that may have no more than its `TEXT_FILES`."""

    def remove(self, digest: str) -> Removed:
        """It is gone for everybody when this returns."""

    def removed(self) -> list[Removed]:
        """What was removed and neither put back nor forgotten yet; also what somebody has begun to
        write here or to take away, and may have died over."""


class SharedForms(Protocol):
    """Compiled forms that one replica made for all. Blocking and thread-safe."""

    def listing(self) -> Mapping[str, Stored]:
        """By file name. May raise `StoreUnavailable`."""

    def fetch(self, name: str, target: Path) -> bool:
        """Copy the form of that file name to `target`; False when the store has none, or cannot be
        asked: whoever needs it then makes it."""

    def put(self, name: str, compiled: Path) -> None:
        """In place of one that is there. Raises `StoreFull` or `StoreUnavailable`."""

    def drop(self, name: str) -> None:
        """Nothing happens when there is none. Raises `StoreUnavailable`."""
