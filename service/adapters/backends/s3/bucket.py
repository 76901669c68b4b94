"""Objects below one prefix of a bucket, and what may go wrong with them in the service's own words.

An object carries the sha256 of its bytes, which whoever reads it compares; what comes otherwise is
read again, and is damaged if it stays so. One that another tool has copied may have lost it.
"""

import hashlib
import io
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import structlog
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from service.adapters.backends.s3.failures import (
    AWAY,
    Damaged,
    is_absent,
    is_conflict,
    is_full,
    is_nothing,
    is_taken,
    reason_of,
)
from service.errors import StoreFull, StoreUnavailable
from service.store_location import BucketLocation

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 << 20
"""Larger files are sent in parts of this size."""
_NUM_ATTEMPTS = 3
"""To read a body, and to create beside somebody else's attempt; boto3 repeats the rest."""
_CONFLICT_PAUSE_S = 0.1

_Sink = TypeVar("_Sink", bound=IO[bytes])

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    num_bytes: int
    modified_at: float
    """Unix seconds, by the store's clock."""


class Bucket:
    """Blocking and thread-safe. Keys are relative to the prefix. Everything may raise
    `StoreUnavailable`: then a write may have happened all the same."""

    def __init__(self, client: Any, location: BucketLocation, pause_s: float = 2.0) -> None:
        """After a call that nobody answered, calls fail at once for `pause_s`, so that a store that
        is away costs the first caller time and the others none."""
        self._client = client
        self._bucket = location.bucket
        self._root = f"{location.prefix}/" if location.prefix else ""
        self._pause_s = pause_s
        self._away_until = 0.0
        self._transfers = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
        )

    def listing(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Those that begin with `prefix`, in the order of their keys; only such as come `after`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._root + prefix,
            **({"StartAfter": self._root + after} if after else {}),
        )
        with self._told("list"):
            for page in pages:
                for one in page.get("Contents", ()):
                    key = one["Key"].removeprefix(self._root)
                    yield Listed(key, one["Size"], one["LastModified"].timestamp())

    def get(self, key: str) -> bytes | None:
        """None when there is none. Raises `Damaged`."""
        sink = self._read(key, io.BytesIO)
        return None if sink is None else sink.getvalue()

    def download(self, key: str, target: Path) -> bool:
        """False when there is none. Raises `Damaged`."""
        sink = self._read(key, lambda: target.open("wb"))
        if sink is not None:
            sink.close()
        return sink is not None

    def create(self, key: str, data: bytes) -> None:
        """Raises FileExistsError when another writer was first; nothing has changed then."""
        writer = uuid.uuid4().hex
        for attempt in range(_NUM_ATTEMPTS):
            try:
                with self._told("create", passed=lambda e: is_taken(e) or is_conflict(e)):
                    self._put(key, data, IfNoneMatch="*", writer=writer)
                return
            except ClientError as error:
                # The first attempt may have had its answer lost and the second found its work.
                if is_taken(error) and self._writer_of(key) == writer:
                    return
                if is_taken(error):
                    raise FileExistsError(key) from None
                time.sleep(_CONFLICT_PAUSE_S * (attempt + 1))
        raise StoreUnavailable(AWAY)

    def put(self, key: str, data: bytes) -> None:
        """In place of one that is there. Raises `StoreFull`."""
        with self._told("put"):
            self._put(key, data)

    def upload(self, key: str, source: Path) -> None:
        """The same of a file, in parts if it is large."""
        with source.open("rb") as file, self._told("upload"):
            metadata = {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
            file.seek(0)
            self._client.upload_fileobj(
                file,
                self._bucket,
                self._root + key,
                ExtraArgs={"Metadata": metadata},
                Config=self._transfers,
            )

    def delete(self, key: str) -> None:
        """Nothing happens when there is none."""
        with self._told("delete"):
            self._client.delete_object(Bucket=self._bucket, Key=self._root + key)

    def modified_at(self, key: str) -> float | None:
        """None when there is none."""
        head = self._head(key)
        return None if head is None else float(head["LastModified"].timestamp())

    def _writer_of(self, key: str) -> str | None:
        head = self._head(key)
        return None if head is None else head["Metadata"].get("writer")

    def _head(self, key: str) -> Any:
        try:
            with self._told("head", passed=is_absent):
                return self._client.head_object(Bucket=self._bucket, Key=self._root + key)
        except ClientError:
            return None

    def _put(self, key: str, data: bytes, writer: str = "", **conditions: str) -> None:
        metadata = {"sha256": hashlib.sha256(data).hexdigest()}
        if writer:
            metadata["writer"] = writer
        self._client.put_object(
            Bucket=self._bucket, Key=self._root + key, Body=data, Metadata=metadata, **conditions
        )

    def _read(self, key: str, make: Callable[[], _Sink]) -> _Sink | None:
        """None when there is none; otherwise a sink that has all of it. Each attempt makes one."""
        for attempt in range(_NUM_ATTEMPTS):
            is_last = attempt == _NUM_ATTEMPTS - 1
            try:
                with self._told("get", passed=is_absent):
                    answer = self._client.get_object(Bucket=self._bucket, Key=self._root + key)
                with self._told("get") if is_last else _interrupting():
                    sink, digest = _take(answer["Body"], make)
            except ClientError:
                return None
            except _Interrupted:
                continue
            if digest == answer["Metadata"].get("sha256", digest):
                return sink
            sink.close()
        raise Damaged(key)

    @contextmanager
    def _told(
        self, operation: str, passed: Callable[[ClientError], bool] = is_nothing
    ) -> Iterator[None]:
        """What boto3 raises becomes the service's own, but for what is `passed` on."""
        if time.monotonic() < self._away_until:
            raise StoreUnavailable(AWAY)
        try:
            yield
        except ClientError as error:
            if passed(error):
                raise
            if is_full(error):
                raise StoreFull("The bucket of the adapter store is full.") from error
            self._tell(operation, error)
        except (BotoCoreError, ConnectionError) as error:
            self._away_until = time.monotonic() + self._pause_s
            self._tell(operation, error)

    def _tell(self, operation: str, error: Exception) -> None:
        reason = reason_of(error)
        log.warning("s3_call_failed", operation=operation, bucket=self._bucket, reason=reason)
        raise StoreUnavailable(AWAY) from error


class _Interrupted(Exception):
    """On the way, so that the same may be asked for again."""


@contextmanager
def _interrupting() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ConnectionError) as error:
        raise _Interrupted from error


def _take(body: Any, make: Callable[[], _Sink]) -> tuple[_Sink, str]:
    """A sink that has all of the body, and the sha256 of that (hex)."""
    checksum, sink = hashlib.sha256(), make()
    try:
        with closing(body):
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                checksum.update(chunk)
                sink.write(chunk)
    except BaseException:
        sink.close()
        raise
    return sink, checksum.hexdigest()
