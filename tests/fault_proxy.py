"""A TCP proxy on loopback that does what networks do: delays, cuts, half answers, silence.

It knows no protocol. `answer` is whatever the upstream sends.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class FaultProxy:
    """Runs in a thread of its own; every method may be called from any other."""

    def __init__(
        self, upstream_port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        """With `tls`, clients speak TLS to the proxy and the proxy plain text to the upstream."""
        self.port = 0
        self.num_connections = 0
        """Accepted since the start, refused ones included."""
        self._upstream = (host, upstream_port)
        self._tls = tls
        self._delay_s = 0.0
        self._is_refusing = False
        self._is_silent = False
        self._answers_to_cut = 0
        self._answer_bytes = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=512)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    def lead_to(self, port: int, host: str = "127.0.0.1") -> None:
        """New connections go there; those that are open stay where they are."""
        self._upstream = (host, port)

    def delay(self, seconds: float) -> None:
        """Every answer from now on, those of open connections too; 0 = no more."""
        self._delay_s = seconds

    def cut(self) -> None:
        """All connections that are open, at once; new ones work."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Cut, and close every new connection before it has said anything."""
        self._is_refusing = True
        self.cut()

    def silence(self) -> None:
        """From now on bytes go nowhere, in both directions, and nobody is told."""
        self._is_silent = True

    def cut_answers(self, count: int = 1, after_bytes: int = 0) -> None:
        """The next `count` answers end after so many bytes, and their connections with them: the
        upstream has done what it was asked to."""
        self._answer_bytes = after_bytes
        self._answers_to_cut = count

    def heal(self) -> None:
        """What was silenced is cut, so that nobody waits for it; then everything works."""
        was_silent = self._is_silent
        self._delay_s, self._answers_to_cut = 0.0, 0
        self._is_refusing = self._is_silent = False
        if was_silent:
            self.cut()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        if self._is_refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(reader, far_writer))
                group.create_task(self._answer(far_reader, writer))
        except* (OSError, _Cut, asyncio.CancelledError):
            pass  # asyncio would report it, and nobody else is interested
        finally:
            self._open -= {writer, far_writer}
            for one in (writer, far_writer):
                one.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if not self._is_silent:
                writer.write(data)
                await writer.drain()
        raise _Cut

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._is_silent:
                continue
            is_cut = self._answers_to_cut > 0
            if is_cut:
                self._answers_to_cut -= 1
                data = data[: self._answer_bytes]
            writer.write(data)
            await writer.drain()
            if is_cut:
                # Close, not abort: the bytes before the cut have to arrive.
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                raise _Cut
        raise _Cut

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Cut(Exception):
    pass
