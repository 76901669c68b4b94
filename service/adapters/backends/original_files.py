"""`Originals` in a folder: `<folder>/<digest>/`, complete in one rename and never changed after it.

What is removed lies aside as `<aside>/<digest>.<unique>` until its remover has looked again.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.adapters import durable
from service.adapters.backends.contents import Removed, Stored
from service.adapters.compiling import CompileOutcome
from service.adapters.manifest import Manifest
from service.adapters.objects import (
    DIGEST,
    RECORD,
    decode_manifest,
    encode_manifest,
    used_files,
)
from service.adapters.presence import check_there, store_in
from service.errors import AdapterLoadFailed


class OriginalFiles:
    def __init__(self, folder: Path, aside: Path, temporary: Path) -> None:
        """All on one disk; `temporary` is this process's own."""
        self._folder = folder
        self._aside = aside
        self._temporary = temporary

    def listing(self) -> Mapping[str, Stored]:
        found = {}
        with store_in(self._folder):
            for path in self._folder.iterdir():
                if DIGEST.fullmatch(path.name):
                    with suppress(FileNotFoundError):  # Somebody may remove it meanwhile.
                        files = (file for file in path.iterdir() if file.name != RECORD)
                        num_bytes = sum(file.stat().st_size for file in files)
                        found[path.name] = Stored(num_bytes, path.stat().st_mtime)
        return found

    def has(self, digest: str) -> bool:
        with store_in(self._folder):
            is_there = (self._folder / digest / RECORD).is_file()
        if not is_there:
            check_there(self._folder)
        return is_there

    def manifest(self, digest: str) -> Manifest | None:
        try:
            with store_in(self._folder):
                return decode_manifest((self._folder / digest / RECORD).read_bytes())
        except OSError:
            return None

    def add(self, outcome: CompileOutcome) -> None:
        digest = outcome.manifest.digest
        if self.manifest(digest) is not None:
            return
        with durable.disk_full_is_store_full(), store_in(self._folder):
            if (self._folder / digest).exists():
                # Its summary cannot be read, so nothing vouches for it.
                self.remove(digest).forget()
            draft = self._temporary / f"object-{uuid.uuid4().hex}"
            try:
                self._write_draft(draft, outcome)
                self._move_in(draft, digest)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def folder(self, digest: str) -> Path:
        path = self._folder / digest
        if not path.is_dir():
            # Somebody needs it, so whoever put it aside is to find a record that speaks of it.
            for one in self._removed(f"{digest}.*"):
                one.put_back()
        if not path.is_dir():
            check_there(self._folder)
            raise AdapterLoadFailed("The stored files of the adapter are missing.")
        return path

    def text_folder(self, digest: str) -> Path:
        return self.folder(digest)

    def remove(self, digest: str) -> Removed:
        check_there(self._folder)
        source, aside = self._folder / digest, self._aside / f"{digest}.{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            self._aside.mkdir(exist_ok=True)
            os.utime(source)
            durable.put_aside(source, aside)
        return _Aside(digest, aside, self)

    def removed(self) -> list[Removed]:
        return list(self._removed("*"))

    def forget(self, aside: Path) -> None:
        doomed = self._temporary / f"removed-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):  # Somebody has put it back.
            durable.remove_tree(aside, doomed)

    def put_back(self, aside: Path, digest: str) -> None:
        if self._move_in(aside, digest):
            durable.fsync_folder(self._aside)
        else:
            self.forget(aside)

    def _removed(self, pattern: str) -> Iterator["_Aside"]:
        for path in self._aside.glob(pattern) if self._aside.is_dir() else ():
            yield _Aside(path.name.partition(".")[0], path, self)

    def _write_draft(self, draft: Path, outcome: CompileOutcome) -> None:
        draft.mkdir()
        for path in used_files(outcome):
            _link_or_copy(path, draft / path.name)
            durable.sync_file(draft / path.name, "object.file")
        data = encode_manifest(outcome.manifest)
        durable.write_file(draft / RECORD, "object.record", lambda file: file.write(data))
        durable.fsync_folder(draft)

    def _move_in(self, source: Path, digest: str) -> bool:
        """False when the same is there already, or `source` is gone."""
        try:
            durable.rename(source, self._folder / digest, "object")
        except OSError:
            if not self.has(digest):
                raise
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Aside:
    digest: str
    path: Path
    owner: OriginalFiles

    @property
    def removed_at(self) -> float:
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def put_back(self) -> None:
        if self.path.is_dir():
            self.owner.put_back(self.path, self.digest)

    def forget(self) -> None:
        self.owner.forget(self.path)


def _link_or_copy(source: Path, target: Path) -> None:
    """A link costs nothing, but not every file system has them, nor across disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
