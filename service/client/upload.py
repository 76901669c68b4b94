"""A PEFT folder or an archive on its way: read while it is sent, never held in memory."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
from anyio import to_thread

from service.client.errors import InvalidCall

Progress = Callable[[int, int], None]
"""Takes the bytes that were sent, and of how many."""
Parts = list[tuple[str, tuple[str, BinaryIO]]]


@dataclass(frozen=True, slots=True)
class Upload:
    source: Path
    """A folder, whose files are sent one by one, or an archive of one."""
    fields: Mapping[str, str] = field(default_factory=dict)
    on_progress: Progress | None = None

    @contextmanager
    def opened(self) -> Iterator[Parts]:
        """Raises `InvalidCall` when there is nothing that can be read."""
        try:
            paths = self._paths()
            with ExitStack() as stack:
                part = "files" if self.source.is_dir() else "archive"
                files = [(path.name, stack.enter_context(path.open("rb"))) for path in paths]
                yield [(part, one) for one in files]
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise InvalidCall(f"{error.filename or self.source}: {reason}.") from error

    def _paths(self) -> list[Path]:
        if not self.source.is_dir():
            return [self.source]
        entries = sorted(self.source.iterdir())
        paths = [one for one in entries if one.is_file() and not one.name.startswith(".")]
        if not paths:
            raise InvalidCall(f"The folder {self.source} holds no files.")
        return paths


class CountedStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A request's body that tells how much of it has been taken."""

    def __init__(self, stream: httpx.SyncByteStream, num_bytes: int, on_progress: Progress) -> None:
        self._stream = stream
        self._num_bytes = num_bytes
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[bytes]:
        num_sent = 0
        for chunk in self._stream:
            yield chunk
            num_sent += len(chunk)
            self._on_progress(num_sent, self._num_bytes)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Files are read in a thread: a slow disk must not hold up the event loop.
        chunks = iter(self)
        while chunk := await to_thread.run_sync(next, chunks, b""):
            yield chunk
