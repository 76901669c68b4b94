"""Two thin ways to send a call, one that blocks and one to await; all else they share."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar, cast

import anyio
import httpx
from pydantic import ValidationError

from service.client.call import Call, Listing, Watch
from service.client.errors import InvalidCall, UnexpectedAnswer, Unreachable, error_of
from service.client.results.base import Result
from service.client.retry import RetryPolicy
from service.client.upload import CountedStream, Parts

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class SyncTransport:
    http: httpx.Client
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def send(self, call: Call[R]) -> R:
        with _opened(call) as parts:
            for attempt in count(1):
                try:
                    response = self.http.send(_request(self.http, call, parts))
                except httpx.TransportError as error:
                    raise _unreachable(error, self.http.base_url) from error
                wait = _wait_s(self.retry, call, response, attempt)
                if wait is None:
                    break
                time.sleep(wait)
            return _result(call, response)

    def watch(self, watch: Watch[R]) -> R:
        while not watch.is_over(found := self.send(watch.call)):
            if watch.on_progress:
                watch.on_progress(found)
            time.sleep(watch.every_s)
        return found

    def pages(self, listing: Listing[R]) -> Iterator[R]:
        page = self.send(listing.first)
        yield from page.data
        while page.has_more and page.data:
            page = self.send(listing.after(page.data[-1]))
            yield from page.data


@dataclass(frozen=True, slots=True)
class AsyncTransport:
    http: httpx.AsyncClient
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    async def send(self, call: Call[R]) -> R:
        with _opened(call) as parts:
            for attempt in count(1):
                try:
                    response = await self.http.send(_request(self.http, call, parts))
                except httpx.TransportError as error:
                    raise _unreachable(error, self.http.base_url) from error
                wait = _wait_s(self.retry, call, response, attempt)
                if wait is None:
                    break
                await anyio.sleep(wait)
            return _result(call, response)

    async def watch(self, watch: Watch[R]) -> R:
        while not watch.is_over(found := await self.send(watch.call)):
            if watch.on_progress:
                watch.on_progress(found)
            await anyio.sleep(watch.every_s)
        return found

    async def pages(self, listing: Listing[R]) -> AsyncIterator[R]:
        page = await self.send(listing.first)
        for entry in page.data:
            yield entry
        while page.has_more and page.data:
            page = await self.send(listing.after(page.data[-1]))
            for entry in page.data:
                yield entry


def _opened(call: Call[R]) -> AbstractContextManager[Parts]:
    return call.upload.opened() if call.upload else nullcontext([])


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[R], parts: Parts) -> httpx.Request:
    timeout = http.timeout.as_dict()
    if call.timeout_s is not None:
        timeout["read"] = call.timeout_s
    request = http.build_request(
        call.method,
        call.path,
        params={name: value for name, value in call.query.items() if value is not None},
        headers=dict(call.headers),
        json=call.body,
        data=dict(call.upload.fields) if call.upload else None,
        files=parts or None,
        extensions={"timeout": timeout},
    )
    if call.upload and call.upload.on_progress:
        num_bytes = int(request.headers["content-length"])
        stream = cast(httpx.SyncByteStream, request.stream)
        request.stream = CountedStream(stream, num_bytes, call.upload.on_progress)
    return request


def _wait_s(
    retry: RetryPolicy, call: Call[R], response: httpx.Response, attempt: int
) -> float | None:
    if response.status_code in call.answers:
        return None
    return retry.wait_s(
        response.status_code, response.headers, attempt, is_repeatable=call.is_repeatable
    )


def _result(call: Call[R], response: httpx.Response) -> R:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not response.is_success and response.status_code not in call.answers:
        raise error_of(response.status_code, body, response.headers)
    try:
        return call.result.of(body, response.headers)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"The answer to {call.method} {call.path} is not one of a server of ours."
        ) from error


def _unreachable(error: httpx.TransportError, url: httpx.URL) -> InvalidCall | Unreachable:
    address = str(url).rstrip("/")
    if isinstance(error, httpx.LocalProtocolError):
        # A file that grows or shrinks while it is sent, for instance.
        return InvalidCall(f"The call cannot be sent: {error}.")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unreachable(f"Nothing answers at {address}.")
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(f"{address} did not answer in time.")
    return Unreachable(f"The connection to {address} broke.")
