"""The processes of a fleet, each in a group of its own that is gone when it is closed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tests.server import ROOT, environment_of, free_port

START_SECONDS = 90.0
STOP_SECONDS = 60.0


class Process:
    """May be started again after its end, with the same port and folder."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self.port = free_port()
        self.work.mkdir(parents=True, exist_ok=True)
        self._log = work / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    async def is_ready(self) -> bool:
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Its group is not the caller's: Ctrl-C reaches the harness alone, which ends all."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self.command()],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def started(self, seconds: float = START_SECONDS) -> None:
        """Returns when it can be used."""
        async with asyncio.timeout(seconds):
            while not await self.is_ready():
                if not self.is_running:
                    raise AssertionError(f"{self.name} ended:\n{self.log[-4000:]}")
                await asyncio.sleep(0.05)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit code; what it has left behind in its group is ended too."""
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if self._process.poll() is not None:
                        break
                    await asyncio.sleep(0.02)
        finally:
            self.kill()
        return self._process.wait()

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    def kill(self) -> None:
        """With all its group: a container dies as a whole."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Replica(Process):
    def __init__(self, name: str, work: Path, settings: Mapping[str, object]) -> None:
        super().__init__(name, work)
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "base_model": ROOT / "demo" / "demo-base",
            "cache_dir": work / "cache",
            "port": self.port,
            "dtype": "float32",
            "threads": 1,
            "kv_bytes": 64 << 20,
            "native_kernels": False,
            "warm_compiler": False,
            "verify_uploads": False,
            **settings,
        }

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "service", "serve"]

    def environment(self) -> Mapping[str, str]:
        return environment_of(self.settings) | {"OMP_NUM_THREADS": "1"}

    async def is_ready(self) -> bool:
        try:
            async with httpx.AsyncClient(timeout=2) as client:
                return (await client.get(f"{self.url}/ready")).status_code == 200
        except httpx.TransportError:
            return False
