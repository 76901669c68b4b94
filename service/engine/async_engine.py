"""Where the engine thread meets the event loop; the only file that knows both.

Down: one queue of messages. Up: one `call_soon_threadsafe` per step, whatever the batch.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

import structlog

from service.core import AdapterRef, EngineStats, FinishReason, GenerationRequest, TokenEvent
from service.engine.activity import Activity
from service.engine.admission import Admission
from service.engine.cold import Load
from service.engine.engine import Engine, EngineParts
from service.errors import Draining, EngineFailed, RepertoireError
from service.model.host_adapter import HostAdapter

log = structlog.get_logger(__name__)

Message = Callable[[Engine], list[TokenEvent] | None]


def _abort(request_id: str, engine: Engine) -> list[TokenEvent]:
    return engine.abort(request_id)


class EngineStream:
    """The events of one sequence on the event loop's side, for one reader."""

    def __init__(self, request_id: str, tenant: str, close: Callable[[str], None]) -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.is_terminated = False
        self._events: deque[TokenEvent] = deque()
        self._arrival: asyncio.Future[None] | None = None
        """Somebody waits for it while it is not done."""
        self._close = close

    def put(self, event: TokenEvent) -> None:
        self._events.append(event)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def __aiter__(self) -> "EngineStream":
        return self

    async def __anext__(self) -> TokenEvent:
        if self.is_terminated:
            raise StopAsyncIteration
        while not self._events:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        event = self._events.popleft()
        self.is_terminated = event.is_terminal
        return event

    async def aclose(self) -> None:
        self.is_terminated = True
        self._close(self.request_id)


class AsyncEngine:
    """`EngineClient` over a thread. Create, `start` and use it on one event loop."""

    def __init__(
        self,
        parts: EngineParts,
        max_pending: int,
        on_unawaited: Callable[[Load], None] | None = None,
    ) -> None:
        """`max_pending`: sequences that may be open at once, running ones included.

        `Admission` says how many of them one tenant may have. `on_unawaited` is told, on the event
        loop, of loads whose requests have left before the end.
        """
        self._unawaited = on_unawaited
        self._engine = Engine(parts, self._on_loaded, self._on_unawaited)
        self._admission = Admission(max_pending)
        self._loader = parts.loader
        self._runner = parts.runner
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._streams: dict[str, EngineStream] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = False
        self._is_draining = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._runner.prepare()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the step it is in; open streams end with an error."""
        self._is_draining = True
        self._inbox.put(None)
        self._loader.close()
        await asyncio.to_thread(self._thread.join)
        self._fail_streams(Draining("The server is shutting down."))

    def drain(self) -> None:
        """Refuse new sequences; running ones go on."""
        self._is_draining = True

    def cut_off(self) -> None:
        self.drain()
        for request_id in self._streams:
            self._inbox.put(partial(_abort, request_id))
        self._fail_streams(Draining("The server is shutting down."))

    @property
    def is_healthy(self) -> bool:
        return not self._failed

    @property
    def num_open(self) -> int:
        return len(self._streams)

    def stats(self) -> EngineStats:
        return self._engine.stats

    def activity(self) -> Activity:
        return self._engine.activity.snapshot()

    def submit(self, request: GenerationRequest) -> EngineStream:
        if self._failed:
            raise EngineFailed("The engine has failed; the server must be restarted.")
        if self._is_draining:
            raise Draining("The server is shutting down.")
        self._admission.enter(request.tenant)
        stream = EngineStream(request.request_id, request.tenant, self._close)
        self._streams[request.request_id] = stream
        self._inbox.put(lambda engine: engine.add(request))
        return stream

    def unload(self, digest: str) -> None:
        self._inbox.put(lambda engine: engine.unload(digest))

    def pin(self, refs: Iterable[AdapterRef]) -> None:
        pinned = tuple(refs)
        self._inbox.put(lambda engine: engine.pin(pinned))

    def _close(self, request_id: str) -> None:
        if self._forget(request_id):
            self._inbox.put(partial(_abort, request_id))

    def _on_loaded(
        self, digest: str, result: HostAdapter | RepertoireError, seconds: float
    ) -> None:
        self._inbox.put(lambda engine: engine.finish_load(digest, result, seconds))

    def _on_unawaited(self, load: Load) -> None:
        if self._unawaited is not None:
            self._call_on_loop(self._unawaited, load)

    def _run(self) -> None:
        try:
            while self._take_messages():
                if self._engine.has_work:
                    self._deliver(self._engine.step())
        except BaseException:
            log.exception("engine_failed")
            self._failed = True
            self._call_on_loop(self._fail_streams, EngineFailed("The engine has failed."))

    def _take_messages(self) -> bool:
        """Apply what is in the inbox, waiting for it only when there is nothing to run."""
        events: list[TokenEvent] = self._engine.expire()
        message = self._next_message(wait=not self._engine.has_work and not events)
        while message is not None:
            events += message(self._engine) or []
            message = self._next_message(wait=False)
        self._deliver(events)
        return not self._stopping

    _stopping = False

    def _next_message(self, wait: bool) -> Message | None:
        deadline = self._engine.next_deadline
        timeout = None if deadline is None else max(0.0, deadline - monotonic())
        try:
            message = self._inbox.get(block=wait, timeout=timeout)
        except queue.Empty:
            return None
        self._stopping = self._stopping or message is None
        return message

    def _deliver(self, events: list[TokenEvent]) -> None:
        if events:
            self._call_on_loop(self._dispatch, events)

    def _call_on_loop(self, call: Callable[..., None], argument: object) -> None:
        assert self._loop is not None, "start() comes first"
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, argument)

    def _dispatch(self, events: list[TokenEvent]) -> None:
        for event in events:
            stream = self._streams.get(event.request_id)
            if stream is None:
                continue
            stream.put(event)
            if event.is_terminal:
                self._forget(event.request_id)

    def _forget(self, request_id: str) -> bool:
        """Whether the stream was open; its place is free from now on."""
        stream = self._streams.pop(request_id, None)
        if stream is not None:
            self._admission.leave(stream.tenant)
        return stream is not None

    def _fail_streams(self, error: RepertoireError) -> None:
        for request_id, stream in list(self._streams.items()):
            self._forget(request_id)
            stream.put(TokenEvent(request_id, finish_reason=FinishReason.ERROR, error=error))
