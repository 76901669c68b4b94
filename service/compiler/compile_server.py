"""The compile server as seen from the service: one child process that reads what only peft can."""

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Self

from service.base import BaseDescription, Quantization
from service.compiler.child_environment import child_environment

_START_SECONDS = 300.0
"""Importing torch and peft at low priority beside a busy engine takes tens of seconds."""

_log = logging.getLogger(__name__)


class CompileServer:
    """Started at the first job or by `start`, and again after it died. Jobs run one by one."""

    def __init__(
        self, base_folder: Path, quantization: Quantization = "none", dtype: str = "auto"
    ) -> None:
        """`dtype`: of the run, which a quantised base is rounded from."""
        self._arguments = [str(base_folder), quantization, dtype]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def of(cls, base: BaseDescription) -> Self:
        return cls(Path(base.folder), base.quantization, base.dtype)

    def start(self) -> None:
        """Bring it up; blocking."""
        with self._lock:
            self._running()

    def run(self, question: Path, answer: Path, seconds: float) -> int:
        """Exit status of the job's process; negative = the signal that ended it."""
        with self._lock:
            process = self._running()
            if process is None:
                return 1
            assert process.stdin is not None
            try:
                process.stdin.write(f"{json.dumps([str(question), str(answer)])}\n")
                process.stdin.flush()
            except OSError:
                self._stop()
                return 1
            line = self._read_line(process, seconds)
            if line is None:
                self._stop()
                return -signal.SIGKILL
            return int(line)

    def close(self) -> None:
        """Without the lock: whoever waits for the process learns that it has died."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _running(self) -> "subprocess.Popen[str] | None":
        """None when it cannot be started."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", "service.compiler.tuners",
             str(os.getpid()), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            text=True,
            start_new_session=True,
        )  # fmt: skip
        if self._read_line(self._process, _START_SECONDS) == "ready":
            return self._process
        _log.warning("the compile server does not start")
        self._stop()
        return None

    def _read_line(self, process: "subprocess.Popen[str]", seconds: float) -> str | None:
        """None when the process says nothing in time, or has died."""
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        if not _is_readable(process.stdout, deadline):
            return None
        return process.stdout.readline().strip() or None

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def _is_readable(stream: IO[str], deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))
