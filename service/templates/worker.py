"""One worker process as seen from outside: started when needed, killed when it takes too long."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

from service.templates.frames import read_frame, write_frame
from service.templates.limits import RenderLimits

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
"""A busy machine may need long for even a small interpreter; no template is to blame for that."""

_BYTES_PER_CHAR = 6
"""At most, as JSON: a control character."""
_ANSWER_OVERHEAD = 1 << 16

_log = logging.getLogger(__name__)


class TemplateFailed(Exception):
    """A template's fault. `str(error)` continues a sentence that begins with `The template`."""


class WorkerUnavailable(Exception):
    """No worker can be started."""


class TemplateWorker:
    """Blocking; used by one thread at a time."""

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._is_late = False
        self._max_answer_bytes = limits.max_chars * _BYTES_PER_CHAR + _ANSWER_OVERHEAD

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Raises `TemplateFailed` or `WorkerUnavailable`."""
        job = {"template": template, "variables": dict(variables)}
        is_fresh = self._process is None
        answer = self._ask(job)
        if answer is None and not is_fresh and not self._is_late:
            # What earlier jobs have left in its memory may have been too much, or it died since.
            answer = self._ask(job)
        if answer is None:
            raise TemplateFailed("takes more time or memory than a template may")
        if "text" in answer:
            return str(answer["text"])
        raise TemplateFailed(str(answer.get("problem")))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                cast(BinaryIO, pipe).close()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """None when the worker did not survive the job, or had to be given up after it."""
        process = self._running()
        answer = self._exchange(process, job, self._limits.seconds)
        if answer is None or answer.get("is_exhausted"):
            self.close()
            self._is_late = self._is_late or process.returncode == -signal.SIGXCPU
            _log.warning("a template worker is replaced; out of time: %s", self._is_late)
            return None
        return answer

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            limits = json.dumps(asdict(self._limits))
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-m", "service.templates", limits],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise WorkerUnavailable from error
            if self._exchange(self._process, None, _START_SECONDS) is None:
                self.close()
                raise WorkerUnavailable
        return self._process

    def _exchange(
        self, process: "subprocess.Popen[bytes]", job: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any] | None:
        self._is_late = False
        timer = threading.Timer(seconds, self._expire, (process,))
        timer.daemon = True
        timer.start()
        try:
            if job is not None:
                write_frame(cast(BinaryIO, process.stdin), job)
            return read_frame(cast(BinaryIO, process.stdout), self._max_answer_bytes)
        except OSError:
            return None
        finally:
            timer.cancel()

    def _expire(self, process: "subprocess.Popen[bytes]") -> None:
        self._is_late = True
        process.kill()


def _environment() -> dict[str, str]:
    """Nothing but the time zone is inherited: the server's environment may hold keys."""
    environment = {"PYTHONPATH": str(_ROOT), "LC_ALL": "C.UTF-8"}
    return environment | {name: os.environ[name] for name in ("TZ",) if name in os.environ}
