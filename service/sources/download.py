"""One file over HTTPS, continued where a connection broke, as far as its server makes that safe."""

import hashlib
import re
from dataclasses import dataclass

import httpx

from service.errors import SourceFailed
from service.sources.patience import Interrupted, Patience
from service.sources.source import Target
from service.sources.web_reader import Link, WebReader

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of a file before it is read."""

    num_bytes: int | None = None
    sha256: str | None = None


class Download:
    def __init__(
        self, reader: WebReader, link: Link, target: Target, wanted: Wanted | None = None
    ) -> None:
        self._reader = reader
        self._link = link
        self._target = target
        self._wanted = wanted or Wanted()
        self._num_bytes = 0
        self._total = self._wanted.num_bytes
        self._etag = ""
        self._sha256 = hashlib.sha256()

    async def run(self, file: str | None, patience: Patience) -> str:
        """Write it to the target, as `file` or as the archive; returns its ETag.

        Raises as `Source.fetch`.
        """
        await self._target.begin(file)
        await patience.try_(self._continue)
        if self._wanted.sha256 not in (None, self._sha256.hexdigest()):
            raise SourceFailed("The file has another content than its source says.")
        await self._target.end()
        return self._etag

    async def _continue(self) -> None:
        headers = {}
        if self._num_bytes and _is_strong(self._etag):
            headers = {"Range": f"bytes={self._num_bytes}-", "If-Range": self._etag}
        async with self._reader.open(self._link, headers) as response:
            num_known = await self._join(response)
            # In whatever pieces it comes: what is gathered to a size is lost with the connection.
            async for chunk in response.aiter_raw():
                fresh = chunk[num_known:]
                num_known -= len(chunk) - len(fresh)
                if fresh:
                    await self._take(fresh)
        if self._total is not None and self._num_bytes < self._total:
            raise Interrupted(f"{self._link.url.host} ended the file before its end.")

    async def _take(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if self._total is not None and self._num_bytes > self._total:
            raise SourceFailed("The file is longer than its source says.")
        self._sha256.update(data)
        await self._target.write(data)

    async def _join(self, response: httpx.Response) -> int:
        """How many of the bytes that come are there already."""
        etag = response.headers.get("etag", "")
        is_same = _is_strong(etag) and etag == self._etag
        if response.status_code == 206:
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if not (self._num_bytes and found and int(found[1]) == self._num_bytes):
                raise SourceFailed(f"{self._link.url.host} sends another part than it was asked.")
            if is_same or not etag:
                return 0
        elif response.status_code == 200 and is_same:
            return self._num_bytes
        elif response.status_code == 200:
            await self._begin_anew(response, etag)
            return 0
        # Another file by now, or one that is shorter than what is here.
        self._etag = ""
        raise Interrupted(f"{self._link.url.host} has changed the file meanwhile.")

    async def _begin_anew(self, response: httpx.Response, etag: str) -> None:
        if self._num_bytes:
            await self._target.rewind()
            self._num_bytes = 0
            self._sha256 = hashlib.sha256()
        self._etag = etag
        length = response.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            if self._wanted.num_bytes not in (None, int(length)):
                raise SourceFailed("The file has another length than its source says.")
            self._total = int(length)
            if self._wanted.num_bytes is None:
                self._target.announce(self._total)


def _is_strong(etag: str) -> bool:
    return etag.startswith('"')
