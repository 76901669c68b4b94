"""s3://: the files of an adapter below a prefix, or an archive by its key."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import to_thread

from service.errors import SourceDenied, SourceFailed, SourceNotFound
from service.sources.address import ARCHIVES, BucketAddress
from service.sources.patience import Interrupted, Patience
from service.sources.source import Target, adapter_files, refused

FLAG = "--source-buckets"
_CHUNK_BYTES = 1 << 20
_MAX_LISTED = 1000
"""Keys right below a prefix; an adapter is some files."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    num_bytes: int
    etag: str


class BucketSource:
    scheme = "s3"

    def __init__(
        self,
        address: BucketAddress,
        client: Any,
        buckets: Sequence[str],
        patience: Patience,
    ) -> None:
        """`client` is one of boto3, `buckets` as in the settings. Raises `SourceRefused`."""
        if not any(_is_below(address, one) for one in buckets):
            raise refused(str(address) if buckets else "s3://", FLAG)
        self.shown = str(address)
        self._address = address
        self._client = client
        self._patience = patience

    async def fetch(self, target: Target) -> str:
        if self._address.key.endswith(ARCHIVES):
            entry = await self._ask(self._archive)
            target.announce(entry.num_bytes)
            await self._copy(entry, None, target)
            return entry.etag
        entries = await self._ask(self._listing)
        wanted = adapter_files(set(entries), self.shown)
        target.announce(sum(entries[name].num_bytes for name in wanted))
        for name in wanted:
            await self._copy(entries[name], name, target)
        etags = "\n".join(f"{name} {entries[name].etag}" for name in wanted)
        return hashlib.sha256(etags.encode()).hexdigest()

    def _archive(self) -> _Entry:
        key = self._address.key
        head = self._client.head_object(Bucket=self._address.bucket, Key=key)
        return _Entry(key, head["ContentLength"], head["ETag"])

    def _listing(self) -> dict[str, _Entry]:
        prefix = f"{self._address.key}/"
        found = self._client.list_objects_v2(
            Bucket=self._address.bucket, Prefix=prefix, Delimiter="/", MaxKeys=_MAX_LISTED
        )
        if found["IsTruncated"]:
            raise SourceFailed(
                f"{self.shown} holds more than {_MAX_LISTED} objects, so it is no adapter's folder."
            )
        return {
            one["Key"].removeprefix(prefix): _Entry(one["Key"], one["Size"], one["ETag"])
            for one in found.get("Contents", ())
        }

    async def _copy(self, entry: _Entry, file: str | None, target: Target) -> None:
        num_bytes = 0

        async def go_on() -> None:
            nonlocal num_bytes
            if num_bytes == entry.num_bytes:
                return
            # The very same content, or nothing: what is here already must fit what comes.
            body = await self._once(
                lambda: self._client.get_object(
                    Bucket=self._address.bucket,
                    Key=entry.key,
                    IfMatch=entry.etag,
                    Range=f"bytes={num_bytes}-",
                )["Body"]
            )
            try:
                while data := await self._once(lambda: body.read(_CHUNK_BYTES)):
                    await target.write(data)
                    num_bytes += len(data)
            finally:
                # Not here: it waits for a read that is under way, which nothing can stop.
                asyncio.get_running_loop().run_in_executor(None, body.close)
            if num_bytes < entry.num_bytes:
                raise Interrupted(f"{self.shown} ended before its end.")

        await target.begin(file)
        await self._patience.try_(go_on)
        await target.end()

    async def _ask(self, call: Callable[[], _T]) -> _T:
        return await self._patience.try_(lambda: self._once(call))

    async def _once(self, call: Callable[[], _T]) -> _T:
        """Raises `Interrupted` or `SourceFailed`."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return await to_thread.run_sync(call)
        except NoCredentialsError:
            raise SourceDenied(f"This server has no credentials for {self.shown}.") from None
        except BotoCoreError as error:
            raise Interrupted(
                f"The connection for {self.shown} broke ({type(error).__name__})."
            ) from None
        except ClientError as error:
            raise self._failure(error.response) from None

    def _failure(self, response: Any) -> Exception:
        """The code alone is told: the rest may name accounts."""
        code = str(response.get("Error", {}).get("Code", ""))[:64]
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 404:
            return SourceNotFound(f"There is no {self.shown} ({code}).")
        if status in (401, 403):
            return SourceDenied(f"{self.shown} may not be read by this server ({code}).")
        if status == 412:
            return SourceFailed(f"{self.shown} was changed while it was fetched.")
        if status == 429 or status >= 500:
            return Interrupted(f"{self.shown} cannot be read for now ({code}).")
        return SourceFailed(f"{self.shown} cannot be read ({code}).")


def _is_below(address: BucketAddress, listed: str) -> bool:
    bucket, _, prefix = listed.partition("/")
    prefix = prefix.strip("/")
    is_inside = not prefix or f"{address.key}/".startswith(f"{prefix}/")
    return address.bucket == bucket and is_inside
