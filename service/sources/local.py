"""A path of the server, below a root that the operator allows, and nowhere else."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from service.errors import SourceFailed, SourceNotFound
from service.sources.address import PathAddress
from service.sources.source import Target, adapter_files, refused

FLAG = "--source-root"
_CHUNK_BYTES = 1 << 20


class LocalSource:
    scheme = "path"

    def __init__(self, address: PathAddress, root: Path | None) -> None:
        """Raises `SourceRefused`."""
        if root is None:
            raise refused("A path of the server", FLAG)
        self.shown = str(address)
        self._root = root
        self._path = root / address.path

    async def fetch(self, target: Target) -> str:
        try:
            parts, names = await to_thread.run_sync(self._look)
            if names is None:
                await self._copy(parts, None, target)
                return ""
            for name in adapter_files(names, self.shown):
                await self._copy((*parts, name), name, target)
        except (OSError, RuntimeError) as error:  # the latter for links that go in a circle
            reason = getattr(error, "strerror", None) or "its links lead nowhere"
            raise SourceFailed(f"{self.shown} cannot be read: {reason}.") from None
        return ""

    def _look(self) -> tuple[tuple[str, ...], set[str] | None]:
        """Where it really lies below the root, and the names in it if it is a folder."""
        root, path = self._root.resolve(), self._path.resolve()
        if not path.is_relative_to(root):
            raise refused(f"A path outside the root ({self.shown})", FLAG)
        if not path.exists():
            raise SourceNotFound(f"There is no {self.shown}.")
        parts = path.relative_to(root).parts
        return parts, {one.name for one in path.iterdir()} if path.is_dir() else None

    async def _copy(self, parts: tuple[str, ...], file: str | None, target: Target) -> None:
        with await to_thread.run_sync(_open, self._root, parts) as opened:
            await target.begin(file)
            while data := await to_thread.run_sync(opened.read, _CHUNK_BYTES):
                await target.write(data)
            await target.end()


def _open(root: Path, parts: tuple[str, ...]) -> BinaryIO:
    """Step by step, none of them a link: whoever may write below the root may also have put one
    there since it was looked at."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Or to open a pipe would wait for who writes into it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return os.fdopen(file, "rb")
    os.close(file)
    raise SourceFailed("It is not a regular file.")
