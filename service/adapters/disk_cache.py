"""The disk tier: compiled forms by digest, each taken from those that replicas share, or rebuilt
from the store's original.

Blocking and thread-safe; several processes may share the folder. Evicting unlinks the file;
whoever has it open goes on reading it.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from service.adapters import durable
from service.adapters.backends.contents import SharedForms
from service.adapters.compiled import COMPILER_VERSION, CompiledHeader, read_header
from service.adapters.file_sizes import FileSizes
from service.adapters.form_sharing import FormSharing
from service.adapters.forms import FORM_NAME, SUFFIX, FormFolder
from service.adapters.scratch import Scratch, remove
from service.adapters.sealed import copy_sealed, is_intact
from service.base import BaseDescription
from service.core import AdapterRef, TierStats
from service.errors import AdapterLoadFailed, AdapterRefused, UploadTooLarge

Rebuild = Callable[[str, Path], Path]
"""(digest, empty work folder) → the compiled file, somewhere under that folder.

May raise what a compile raises.
"""


class DiskCache:
    def __init__(
        self,
        folder: Path,
        budget_bytes: int,
        base: BaseDescription,
        rebuild: Rebuild,
        shared: SharedForms | None = None,
    ) -> None:
        """`shared` are the forms of all replicas, if there are others."""
        self._folder = folder
        self._files = FormFolder(folder)
        self._scratch = Scratch(folder / "tmp")
        self._budget = budget_bytes
        self._base = base
        self._rebuild = rebuild
        self._sharing = FormSharing(shared)
        self._variant = _variant(base)
        self._lock = threading.Lock()
        self._flights: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        """Each is there as long as somebody holds it or waits for it."""
        self._sizes = FileSizes()
        self._verified: set[str] = set()
        self._hits = self._misses = self._evictions = self._loads = 0
        self._load_seconds = 0.0

    def start(self) -> None:
        """Learn what an earlier process left; half-written files go."""
        self._scratch.open()
        found = [path for path in self._folder.iterdir() if FORM_NAME.fullmatch(path.name)]
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
            self._sizes.use(path.name, path.stat().st_size)
        self._evict(keep="")

    def has(self, digest: str) -> bool:
        with self._lock:
            return self._name(digest) in self._sizes

    def digests(self) -> list[str]:
        """Of the forms for this base."""
        ending = self._name("")
        with self._lock:
            names = self._sizes.least_recent_first()
        return [name.removesuffix(ending) for name in names if name.endswith(ending)]

    @property
    def revision(self) -> int:
        """Grows with every change of `digests()`."""
        return self._sizes.revision

    def open(self, ref: AdapterRef) -> BinaryIO:
        """The compiled form, readable from its first byte. Raises `AdapterLoadFailed`."""
        with self._flight(ref.digest):
            if (file := self._open_intact(ref.digest)) is not None:
                self._count(hits=1)
                return file
            self._count(misses=1)
            started = time.monotonic()
            file = self._fetch(ref.digest) or self._build(ref.digest)
            self._count(loads=1, seconds=time.monotonic() - started)
            return file

    def put(self, digest: str, compiled: Path) -> None:
        """Take over what a publish has just compiled."""
        with self._flight(digest):
            if not self.has(digest):
                self._install(digest, compiled).close()

    def bytes_by_digest(self) -> Mapping[str, int]:
        return self._files.bytes_by_digest()

    def drop(self, digest: str) -> None:
        """Remove every form of it, those of other bases included; of the shared ones that of this
        base."""
        with self._flight(digest):
            names = {self._name(digest), *self._files.names(digest)}
            with self._lock:
                for name in names:
                    self._forget(name)
            self._sharing.drop(self._name(digest))

    def tiers(self) -> dict[str, TierStats]:
        """By name; `store` is what came from other replicas."""
        return {"disk": self.stats(), **self._sharing.stats()}

    def stats(self) -> TierStats:
        """Without the lock, under which files are deleted: the engine asks on every step. Each
        number is true of a moment, not all of the same one."""
        return TierStats(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            loads=self._loads,
            load_seconds=self._load_seconds,
            num_bytes=self._sizes.num_bytes,
            budget_bytes=self._budget,
            num_adapters=len(self._sizes),
        )

    def _name(self, digest: str) -> str:
        return f"{digest}-{self._variant}{SUFFIX}"

    def _flight(self, digest: str) -> threading.Lock:
        """One builder per version at a time; the others wait for its result."""
        with self._lock:
            return self._flights.setdefault(digest, threading.Lock())

    def _open_intact(self, digest: str) -> BinaryIO | None:
        """None when the file is missing or damaged; a damaged one is forgotten."""
        name = self._name(digest)
        try:
            file = (self._folder / name).open("rb")
        except OSError:
            file = None
        if file is not None and (name in self._verified or self._is_valid(file, digest)):
            self._touch(name, file)
            return file
        if file is not None:
            file.close()
        with self._lock:
            self._forget(name)
        return None

    def _is_valid(self, file: BinaryIO, digest: str) -> bool:
        """Checked once per process and file: a checksum costs as much as the load itself."""
        try:
            header = read_header(file)
        except (AdapterLoadFailed, ValueError, KeyError, TypeError):
            return False
        if not self._is_expected(header, digest):
            return False
        return is_intact(file, header.payload_bytes)

    def _is_expected(self, header: CompiledHeader, digest: str) -> bool:
        return (
            header.digest == digest
            and header.fingerprint == self._base.fingerprint
            and header.dtype == self._base.dtype
        )

    def _touch(self, name: str, file: BinaryIO) -> None:
        """The modification time carries the order of use over a restart."""
        file.seek(0)
        with suppress(OSError):
            os.utime(file.fileno())
        with self._lock:
            # Another thread may have evicted it meanwhile; the open file stays readable.
            if (self._folder / name).exists():
                self._sizes.use(name, os.fstat(file.fileno()).st_size)
                self._verified.add(name)

    def _fetch(self, digest: str) -> BinaryIO | None:
        """None when it has to be compiled here."""
        draft = self._scratch.path("fetched")
        name = self._name(digest)
        try:
            if not self._sharing.fetch(name, draft):
                return None
            return self._place(name, draft, self._open_valid(digest, draft))
        except AdapterLoadFailed:
            self._sharing.was_damaged(name)
            return None
        except OSError:
            return None
        finally:
            draft.unlink(missing_ok=True)

    def _build(self, digest: str) -> BinaryIO:
        work = self._scratch.path("build")
        try:
            work.mkdir()
            return self._install(digest, self._rebuild(digest, work))
        except (AdapterRefused, UploadTooLarge) as error:
            message = f"The stored adapter cannot be used on this base: {error}"
            raise AdapterLoadFailed(message) from error
        except OSError as error:
            raise AdapterLoadFailed("The adapter could not be written to the cache.") from error
        finally:
            remove(work)

    def _install(self, digest: str, compiled: Path) -> BinaryIO:
        name = self._name(digest)
        draft = self._scratch.path("draft")
        try:
            durable.write_file(draft, "cache.file", lambda file: copy_sealed(compiled, file))
            file = self._open_valid(digest, draft)
            self._sharing.put(name, draft)
            return self._place(name, draft, file)
        finally:
            draft.unlink(missing_ok=True)

    def _open_valid(self, digest: str, draft: Path) -> BinaryIO:
        """Before others can see it, since they may evict it as soon as they do."""
        file = draft.open("rb")
        if not self._is_valid(file, digest):
            file.close()
            raise AdapterLoadFailed("The compiled form of the adapter cannot be read back.")
        return file

    def _place(self, name: str, draft: Path, file: BinaryIO) -> BinaryIO:
        durable.rename(draft, self._folder / name, "cache")
        self._touch(name, file)
        self._evict(keep=name)
        return file

    def _evict(self, keep: str) -> None:
        with self._lock:
            if self._sizes.num_bytes <= self._budget:
                return
            for name in self._sizes.least_recent_first():
                if name != keep:
                    self._forget(name)
                    self._evictions += 1
                if self._sizes.num_bytes <= self._budget:
                    return

    def _forget(self, name: str) -> None:
        self._sizes.drop(name)
        self._verified.discard(name)
        (self._folder / name).unlink(missing_ok=True)

    def _count(self, hits: int = 0, misses: int = 0, loads: int = 0, seconds: float = 0.0) -> None:
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._loads += loads
            self._load_seconds += seconds


def _variant(base: BaseDescription) -> str:
    """What a form depends on beside its content."""
    compiler = f"{COMPILER_VERSION} {metadata.version('peft')}"
    identity = f"{base.fingerprint} {base.dtype} {compiler}".encode()
    return hashlib.sha256(identity).hexdigest()[:16]
