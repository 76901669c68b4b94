"""A bucket in memory whose calls take turns as a test says, so that every order of them can be
played. What S3 does in one step it does in one step."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from service.adapters.backends.s3.bucket import Listed


class MemoryBucket:
    def __init__(self, turn: Callable[[], None] = lambda: None) -> None:
        """`turn` is called before each step, and comes back when it may be done."""
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.turn = turn
        self._clock = itertools.count(1)
        self._lock = threading.Lock()

    def listing(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self.turn()
        found = sorted(self.objects.items())
        return (
            Listed(key, len(data), at)
            for key, (data, at) in found
            if key.startswith(prefix) and key > after
        )

    def get(self, key: str) -> bytes | None:
        self.turn()
        return self.objects.get(key, (None, 0.0))[0]

    def download(self, key: str, target: Path) -> bool:
        data = self.get(key)
        if data is not None:
            target.write_bytes(data)
        return data is not None

    def create(self, key: str, data: bytes) -> None:
        self.turn()
        with self._lock:
            if key in self.objects:
                raise FileExistsError(key)
            self.objects[key] = data, float(next(self._clock))

    def put(self, key: str, data: bytes) -> None:
        self.turn()
        self.objects[key] = data, float(next(self._clock))

    def upload(self, key: str, source: Path) -> None:
        self.put(key, source.read_bytes())

    def delete(self, key: str) -> None:
        self.turn()
        self.objects.pop(key, None)

    def modified_at(self, key: str) -> float | None:
        self.turn()
        return self.objects.get(key, (b"", None))[1]
