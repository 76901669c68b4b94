"""Runs the compiler in a child process; whatever the child does, the server only gets an answer."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from service.adapters.compiling import CompileOutcome
from service.adapters.files import VERSION_FILES
from service.adapters.limits import AdapterLimits
from service.compiler.job import Job, Result, encode_base
from service.core import BaseDescription
from service.errors import AdapterRefused, Refusal, UploadTooLarge

_MAX_RESULT_BYTES = 16 << 20
_GRACE_SECONDS = 5.0
"""On top of the child's own alarm."""
_ROOT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_log = logging.getLogger(__name__)


class ChildCompiler:
    """Implements `service.adapters.compiling.Compiler`."""

    def __init__(
        self, base: BaseDescription, limits: AdapterLimits, *, is_base_strict: bool = False
    ) -> None:
        self._base = base
        self._encoded_base = encode_base(base)
        self._limits = limits
        self._is_base_strict = is_base_strict
        self._free = threading.BoundedSemaphore(limits.max_parallel_compiles)

    def compile(self, source: Path, work: Path) -> CompileOutcome:
        job = Job(
            str(source.absolute()),
            str(work.absolute()),
            self._base,
            self._limits,
            self._is_base_strict,
        )
        with self._free:
            result = self._run(job.encode(self._encoded_base), work)
        if result.refusals:
            raise AdapterRefused(result.refusals)
        if result.too_large:
            raise UploadTooLarge(result.too_large)
        if result.manifest is None or not _is_plausible(result, source, work):
            _log.warning("compile failed: %s", result.crash)
            raise _failed(result.crash == "out of memory")
        return CompileOutcome(
            manifest=result.manifest,
            folder=Path(result.folder),
            files=result.files,
            compiled=Path(result.compiled),
            warnings=result.warnings,
            unused_files=result.unused_files,
        )

    def _run(self, job: bytes, work: Path) -> Result:
        """Files instead of pipes: no deadlock, no thread, and RLIMIT_FSIZE bounds the answer."""
        question, answer = work / "job.json", work / "result.json"
        question.write_bytes(job)
        with question.open("rb") as stdin, answer.open("wb") as stdout:
            child = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", "service.compiler", str(os.getpid())],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                cwd=work,
                env=_environment(),
                start_new_session=True,
            )
            status = self._wait(child)
        if status != 0:
            _log.warning("compiler child ended with status %s", status)
            raise _failed(status in (-signal.SIGKILL, -signal.SIGALRM, -signal.SIGXCPU))
        with answer.open("rb") as file:
            data = file.read(_MAX_RESULT_BYTES)
        try:
            return Result.decode(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("compiler child answered with garbage: %s", error)
            raise _failed(False) from error

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        try:
            return child.wait(self._limits.compile_timeout_s + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _is_plausible(result: Result, source: Path, work: Path) -> bool:
    """A child that was taken over must not make the server move files of its choice."""
    folder, compiled = Path(result.folder), Path(result.compiled)
    return (
        folder in (source, work / "unpacked")
        and compiled == work / "compiled"
        and not compiled.is_symlink()
        and result.files == VERSION_FILES
        and not any((folder / name).is_symlink() for name in result.files)
    )


def _environment() -> dict[str, str]:
    """Nothing is inherited: the server's environment may hold keys."""
    return {
        "PYTHONPATH": str(_ROOT),
        "LC_ALL": "C.UTF-8",
        **dict.fromkeys(_THREAD_VARIABLES, "1"),
    }


def _failed(is_too_expensive: bool) -> AdapterRefused:
    if is_too_expensive:
        message = "Checking the adapter took more time or memory than allowed."
        return AdapterRefused((Refusal("too_expensive", "upload", message),))
    message = "The adapter could not be compiled."
    return AdapterRefused((Refusal("compile_failed", "upload", message),))
