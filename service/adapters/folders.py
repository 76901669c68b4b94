"""PEFT folders that people put into the store by hand, and what is already known of them.

They are read, never written. What was found out about each is remembered, so that a start does not
compile again what has not changed.
"""

import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from service.adapters import durable
from service.adapters.compiled import COMPILER_VERSION
from service.adapters.files import CONFIG, READ_FILES
from service.adapters.limits import AdapterLimits
from service.base import BaseDescription
from service.errors import Refusal

Stamp = tuple[tuple[str, int, int, int], ...]
"""(file name, bytes, mtime in ns, inode) of every file, sorted."""


@dataclass(frozen=True, slots=True)
class FolderNote:
    stamp: Stamp
    context: str
    """Base, compiler and settings under which the folder was judged; empty = judge it again."""
    digest: str | None
    refusals: tuple[Refusal, ...] = ()


def list_folders(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.iterdir()
        if not path.name.startswith(".") and (path / CONFIG).is_file()
    )


def stamp(folder: Path) -> Stamp:
    stats = [(path.name, path.stat()) for path in folder.iterdir() if path.is_file()]
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats))


def copy_files(folder: Path, target: Path) -> tuple[str, ...]:
    """Copy what means something; returns the names of the rest."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in names:
        if name in READ_FILES:
            shutil.copyfile(folder / name, target / name)
    return tuple(name for name in names if name not in READ_FILES)


def judging_context(base: BaseDescription, limits: AdapterLimits, *, is_base_strict: bool) -> str:
    """Whatever of this process decides whether a folder can be used."""
    return f"{base.fingerprint} {base.dtype} {COMPILER_VERSION} {is_base_strict} {limits}"


class FolderNotes:
    """Losing the file costs time, never correctness."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary

    def load(self) -> dict[str, FolderNote]:
        try:
            raw = json.loads(self._path.read_bytes())
            return {
                name: FolderNote(
                    stamp=tuple((str(n), int(b), int(t), int(i)) for n, b, t, i in note["stamp"]),
                    context=note["context"],
                    digest=note["digest"],
                    refusals=tuple(Refusal(**reason) for reason in note["refusals"]),
                )
                for name, note in raw.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def save(self, notes: Iterable[tuple[str, FolderNote]]) -> None:
        data = json.dumps({name: asdict(note) for name, note in notes}).encode()
        draft = self._temporary / f"folders-{uuid.uuid4().hex}"
        durable.write_file(draft, "folders.file", lambda file: file.write(data))
        durable.rename(draft, self._path, "folders")
