"""Where a fetch lies: a staging folder, filled under the limits of an upload and at a set pace."""

import asyncio
import time
from collections.abc import Callable, Coroutine

from service.adapters.limits import AdapterLimits
from service.adapters.staging import Staging
from service.errors import UploadTooLarge
from service.handlers.intake import Intake

_BATCH_BYTES = 1 << 20

OnProgress = Callable[[int, int | None], None]
"""Takes the bytes that are here, and of how many if that is known."""


class ImportTarget:
    """A `Target` of sources."""

    def __init__(
        self,
        intake: Intake,
        staging: Staging,
        limits: AdapterLimits,
        check_announced: Callable[[int], None],
        on_progress: OnProgress,
        bytes_per_second: int | None = None,
    ) -> None:
        """`check_announced` takes the size of all that will come, and may raise."""
        self._intake = intake
        self._staging = staging
        self._limits = limits
        self._check_announced = check_announced
        self._on_progress = on_progress
        self._pace = bytes_per_second
        self._batch = bytearray()
        self._num_bytes = 0
        self._num_before = 0
        """Of the files that are whole."""
        self._total: int | None = None
        self._started: float | None = None
        self._num_paced = 0
        """All that was ever read, also what was given up."""

    def announce(self, num_bytes: int) -> None:
        if num_bytes > self._limits.max_upload_bytes:
            raise UploadTooLarge(f"More than {self._limits.max_upload_bytes} bytes.")
        self._check_announced(num_bytes)
        self._total = num_bytes
        self._on_progress(self._num_bytes, self._total)

    async def begin(self, file: str | None) -> None:
        if file is None:
            await self._work(self._intake.receive(self._staging, 0, self._staging.begin_archive))
        else:
            begin = self._staging.begin_file
            await self._work(self._intake.receive(self._staging, 0, lambda: begin(file)))

    async def write(self, data: bytes) -> None:
        self._batch += data
        self._num_bytes += len(data)
        if self._num_bytes > self._limits.max_upload_bytes:
            raise UploadTooLarge(f"More than {self._limits.max_upload_bytes} bytes.")
        if len(self._batch) >= _BATCH_BYTES:
            await self._flush()
        self._on_progress(self._num_bytes, self._total)
        await self._keep_pace(len(data))

    async def rewind(self) -> None:
        self._batch.clear()
        await self._work(self._intake.rewind(self._staging))
        self._num_bytes = self._num_before
        self._on_progress(self._num_bytes, self._total)

    async def end(self) -> None:
        await self._flush()
        await self._work(self._intake.receive(self._staging, 0, self._staging.end))
        self._num_before = self._num_bytes

    async def _flush(self) -> None:
        data = bytes(self._batch)
        self._batch.clear()
        write = self._staging.write
        await self._work(self._intake.receive(self._staging, len(data), lambda: write(data)))

    async def _work(self, work: Coroutine[object, object, None]) -> None:
        """A thread cannot be stopped, and whoever is cancelled goes on to discard the folder."""
        job = asyncio.create_task(work)
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait({job})
            raise

    async def _keep_pace(self, num_bytes: int) -> None:
        if self._pace is None:
            return
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        self._num_paced += num_bytes
        ahead_s = self._num_paced / self._pace - (now - self._started)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
