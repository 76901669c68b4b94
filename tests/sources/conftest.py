from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from service.errors import UploadTooLarge
from tests.sources.https_server import HttpsServer, https_server


@dataclass
class MemoryTarget:
    """Keeps what it is given, up to a limit."""

    limit: int = 1 << 20
    files: dict[str | None, bytes] = field(default_factory=dict)
    announced: int | None = None
    num_rewinds: int = 0
    num_written: int = 0
    """All of it, also what was given up."""
    _open: list[str | None] = field(default_factory=list)

    def announce(self, num_bytes: int) -> None:
        self.announced = num_bytes
        if num_bytes > self.limit:
            raise UploadTooLarge("Too much.")

    async def begin(self, file: str | None) -> None:
        assert not self._open
        self._open.append(file)
        self.files[file] = b""

    async def write(self, data: bytes) -> None:
        self.num_written += len(data)
        self.files[self._open[0]] += data
        if sum(map(len, self.files.values())) > self.limit:
            raise UploadTooLarge("Too much.")

    async def rewind(self) -> None:
        self.num_rewinds += 1
        self.files[self._open[0]] = b""

    async def end(self) -> None:
        self._open.pop()


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget()


@pytest.fixture
def server() -> Iterator[HttpsServer]:
    with https_server() as made:
        yield made
