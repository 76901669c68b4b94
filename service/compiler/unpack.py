"""Opens an archive that a client sent: regular files in one folder, within limits, nothing else.

Only files that mean something are written; the rest is listed by name. Runs in the child alone.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from service.adapters.files import READ_FILES, file_name_problem
from service.adapters.limits import AdapterLimits
from service.errors import AdapterRefused, Refusal, UploadTooLarge

_CHUNK_BYTES = 1 << 20
_ZIP_MAGIC = b"PK\x03\x04"
_GZIP_MAGIC = b"\x1f\x8b"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others need as much memory as a member's header says, and fail in ways of their own."""
_SYMLINK = 0o12
_REGULAR = (0, 0o10)


@dataclass(frozen=True, slots=True)
class _Member:
    path: str
    num_bytes: int
    """As declared; never believed."""
    problem: str | None
    stream: IO[bytes] | None


def unpack(archive: Path, folder: Path, limits: AdapterLimits) -> tuple[str, ...]:
    """Write the meaningful files into `folder`; returns the names of all files."""
    try:
        return _Unpacker(folder, limits).unpack(_members(archive, limits))
    except (AdapterRefused, UploadTooLarge, MemoryError):
        raise
    except Exception as error:
        # The standard library lets through whatever a wrong byte makes of it: struct.error, …
        raise _refused("bad_archive", "archive", "The archive cannot be read.") from error


class _Unpacker:
    def __init__(self, folder: Path, limits: AdapterLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._names: list[str] = []
        self._parent: str | None = None
        self._num_bytes = 0

    def unpack(self, members: Iterator[_Member]) -> tuple[str, ...]:
        for member in members:
            name = self._check(member)
            self._names.append(name)
            if member.stream is not None and name in READ_FILES:
                self._write(name, member.stream)
        return tuple(self._names)

    def _check(self, member: _Member) -> str:
        if member.problem:
            message = f"The archive member {member.path!r} {member.problem}."
            raise _refused("bad_archive", member.path, message)
        parent, _, name = member.path.removeprefix("./").rpartition("/")
        problem = file_name_problem(name, self._limits.max_file_name_bytes)
        if parent and not problem:
            problem = file_name_problem(parent, self._limits.max_file_name_bytes)
        if problem is None and self._parent is not None and parent != self._parent:
            problem = "does not lie beside the others; all files must lie in one folder"
        if problem is None and name in self._names:
            problem = "appears twice"
        if problem is not None:
            message = f"The archive member {member.path!r} {problem}."
            raise _refused("bad_archive", member.path, message)
        self._parent = parent
        if len(self._names) >= self._limits.max_files:
            raise UploadTooLarge(f"The archive holds more than {self._limits.max_files} files.")
        self._count(0, declared=member.num_bytes)
        return name

    def _write(self, name: str, stream: IO[bytes]) -> None:
        with (self._folder / name).open("xb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                self._count(len(chunk))
                file.write(chunk)

    def _count(self, num_bytes: int, declared: int = 0) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes + declared > self._limits.max_unpacked_bytes:
            limit = self._limits.max_unpacked_bytes
            raise UploadTooLarge(f"The archive unpacks to more than {limit} bytes.")


def _members(archive: Path, limits: AdapterLimits) -> Iterator[_Member]:
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic == _ZIP_MAGIC:
        return _zip_members(archive, limits)
    if magic.startswith(_GZIP_MAGIC):
        return _tar_members(archive, limits)
    raise _refused("bad_archive", "archive", "The archive is neither a .zip nor a .tar.gz file.")


def _zip_members(archive: Path, limits: AdapterLimits) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        _check_folders(sum(info.filename.endswith("/") for info in infos), limits)
        if sum(info.file_size for info in infos) > limits.max_unpacked_bytes:
            limit = limits.max_unpacked_bytes
            raise UploadTooLarge(f"The archive unpacks to more than {limit} bytes.")
        for info in infos:
            if info.filename.endswith("/"):
                continue
            problem = _zip_problem(info)
            if problem:
                yield _Member(info.orig_filename, info.file_size, problem, None)
            else:
                with opened.open(info) as stream:
                    yield _Member(info.orig_filename, info.file_size, None, stream)


def _zip_problem(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "is packed by another method than deflate"
    kind = info.external_attr >> 28
    if kind == _SYMLINK:
        return "is a link"
    return None if kind in _REGULAR else "is not a regular file"


def _tar_members(archive: Path, limits: AdapterLimits) -> Iterator[_Member]:
    """Streamed: members cannot point at each other, and what was read is what was counted."""
    num_bytes = num_folders = 0
    with tarfile.open(archive, mode="r|gz") as opened:
        for info in opened:
            num_bytes += max(0, info.size)
            if num_bytes > limits.max_unpacked_bytes:
                limit = limits.max_unpacked_bytes
                raise UploadTooLarge(f"The archive unpacks to more than {limit} bytes.")
            if info.isdir():
                num_folders += 1
                _check_folders(num_folders, limits)
                continue
            problem = None if info.isreg() and not info.issparse() else "is not a regular file"
            stream = None if problem else opened.extractfile(info)
            yield _Member(info.name, info.size, problem, stream)


def _check_folders(num_folders: int, limits: AdapterLimits) -> None:
    """They are passed over, but an endless archive of them would be read to its end."""
    if num_folders > limits.max_files:
        raise UploadTooLarge(f"The archive holds more than {limits.max_files} folders.")


def _refused(code: str, subject: str, message: str) -> AdapterRefused:
    return AdapterRefused((Refusal(code, subject[:500], message[:1000]),))
