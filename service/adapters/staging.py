"""Where an upload lies while nobody vouches for it yet: on the store's disk, outside its objects.

Blocking; used by one thread at a time. Every limit is checked while bytes arrive.
"""

import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from service.adapters.durable import disk_full_is_store_full
from service.adapters.files import file_name_problem
from service.adapters.limits import AdapterLimits
from service.errors import InvalidRequest, UploadTooLarge


class Staging:
    def __init__(self, temporary: Path, limits: AdapterLimits) -> None:
        self._limits = limits
        self._folder = temporary / f"upload-{uuid.uuid4().hex}"
        self.files = self._folder / "files"
        self.work = self._folder / "work"
        self._archive = self._folder / "archive"
        self._open: BinaryIO | None = None
        self._num_bytes = 0
        self._names: set[str] = set()
        for folder in (self._folder, self.files, self.work):
            folder.mkdir()

    @property
    def source(self) -> Path:
        """What the compiler is to read: the folder of files, or the archive."""
        return self._archive if self._archive.exists() else self.files

    @property
    def is_empty(self) -> bool:
        return not self._names and not self._archive.exists()

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def begin_file(self, name: str) -> None:
        if problem := file_name_problem(name, self._limits.max_file_name_bytes):
            raise InvalidRequest(f"The file name {name[:100]!r} {problem}.", "files")
        if name in self._names:
            raise InvalidRequest(f"The file {name!r} is sent twice.", "files")
        if len(self._names) >= self._limits.max_files:
            raise UploadTooLarge(f"More than {self._limits.max_files} files.")
        self._refuse_mixture(is_mixed=self._archive.exists())
        self._names.add(name)
        self._open = (self.files / name).open("xb")

    def begin_archive(self) -> None:
        self._refuse_mixture(is_mixed=bool(self._names) or self._archive.exists())
        self._open = self._archive.open("xb")

    def write(self, data: bytes | memoryview) -> None:
        self._num_bytes += len(data)
        if self._num_bytes > self._limits.max_upload_bytes:
            raise UploadTooLarge(f"More than {self._limits.max_upload_bytes} bytes.")
        assert self._open is not None
        with disk_full_is_store_full():
            self._open.write(data)

    def rewind(self) -> int:
        """What was written of the open file goes; returns how many bytes that were."""
        assert self._open is not None
        num_bytes = self._open.tell()
        self._open.seek(0)
        self._open.truncate()
        self._num_bytes -= num_bytes
        return num_bytes

    def end(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def discard(self) -> None:
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_mixture(self, *, is_mixed: bool) -> None:
        if is_mixed:
            raise InvalidRequest("Send either `files` or one `archive`, not both.", "archive")
