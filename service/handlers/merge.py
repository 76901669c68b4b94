"""Several token streams read as one."""

import asyncio
from collections.abc import Sequence

from service.core import TokenEvent
from service.engine.client import TokenStream
from service.errors import EngineFailed


class MergedStreams:
    """Events of all streams in the order of their arrival, each with its stream's index.

    A lone stream is read without a task in between: that is every ordinary request, per token.
    """

    def __init__(self, streams: Sequence[TokenStream]) -> None:
        self._streams = streams
        self._open = set(range(len(streams)))
        self._arrived: asyncio.Queue[tuple[int, TokenEvent | Exception]] = asyncio.Queue()
        self._pumps: list[asyncio.Task[None]] = []

    async def next(self) -> tuple[int, TokenEvent] | None:
        """None once every stream has ended or was closed. Raises what a stream raises."""
        while self._open:
            index, event = (
                (0, await _next_event(self._streams[0]))
                if len(self._streams) == 1
                else await self._read()
            )
            if index not in self._open:
                continue
            if isinstance(event, Exception):
                raise event
            if event.is_terminal:
                self._open.discard(index)
            return index, event
        return None

    async def close(self, index: int) -> None:
        """Abort one stream; the others go on."""
        self._open.discard(index)
        await self._streams[index].aclose()

    async def aclose(self) -> None:
        self._open.clear()
        for pump in self._pumps:
            pump.cancel()
        for stream in self._streams:
            await stream.aclose()

    async def _read(self) -> tuple[int, TokenEvent | Exception]:
        if not self._pumps:
            self._pumps = [
                asyncio.create_task(self._pump(index, stream))
                for index, stream in enumerate(self._streams)
            ]
        return await self._arrived.get()

    async def _pump(self, index: int, stream: TokenStream) -> None:
        try:
            while index in self._open:
                event = await _next_event(stream)
                self._arrived.put_nowait((index, event))
                if event.is_terminal:
                    return
        except Exception as error:
            self._arrived.put_nowait((index, error))


async def wait_until_warm(stream: TokenStream) -> None:
    """Take the event that a request with a limit to its load begins with. Raises what failed."""
    event = await _next_event(stream)
    if event.error is not None:
        raise event.error


async def _next_event(stream: TokenStream) -> TokenEvent:
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        raise EngineFailed("The engine ended a sequence without saying why.") from None
