"""Runs the compiler in a child process; whatever the child does, the server only gets an answer."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from service.adapters.compiling import CompileOutcome
from service.adapters.files import TEXT_FILES, VERSION_FILES
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Conversion
from service.base import BaseDescription
from service.compiler.child_environment import child_environment
from service.compiler.compile_server import CompileServer
from service.compiler.job import Job, Result, Task, encode_base
from service.errors import AdapterRefused, Refusal, UploadTooLarge

_MAX_RESULT_BYTES = 16 << 20
_GRACE_SECONDS = 5.0
"""On top of the child's own alarm."""

_log = logging.getLogger(__name__)


class ChildCompiler:
    """Implements `Compiler` and `Reference` of `service.adapters.compiling`."""

    def __init__(
        self,
        base: BaseDescription,
        limits: AdapterLimits,
        server: CompileServer | None = None,
        *,
        is_base_strict: bool = False,
    ) -> None:
        """`server` reads what only peft can; one of its own unless several compilers share it."""
        self._base = base
        self._encoded_base = encode_base(base)
        self._limits = limits
        self._is_base_strict = is_base_strict
        self._free = threading.BoundedSemaphore(limits.max_parallel_compiles)
        self._server = server or CompileServer.of(base)

    def compile(
        self,
        source: Path,
        work: Path,
        convert_rank: int | None = None,
        *,
        is_stored: bool = False,
    ) -> CompileOutcome:
        conversion: Conversion | None = None
        with self._free:
            if convert_rank is not None:
                conversion = self._convert(source, work, convert_rank)
                source = work / "converted"
            job = replace(self._job(source, work, "compile"), is_stored=is_stored)
            result = self._run(job, work)
        _raise_if_refused(result)
        if result.manifest is None or not _is_plausible(result, source, work):
            _log.warning("compile failed: %s", result.crash)
            raise _failed(result.crash == "out of memory")
        return CompileOutcome(
            manifest=replace(result.manifest, conversion=conversion),
            folder=Path(result.folder),
            files=result.files,
            compiled=Path(result.compiled),
            warnings=result.warnings,
            unused_files=result.unused_files,
            text_files=tuple(work / "text" / name for name in result.text_files),
        )

    def reference(self, source: Path, work: Path) -> Path:
        question, reply = work / "question.json", work / "reference.json"
        result = self._ask_server(self._job(source, work, "reference"), question, reply)
        _raise_if_refused(result)
        path = work / "reference.npz"
        if result.reference != str(path.absolute()) or path.is_symlink():
            _log.warning("reference failed: %s", result.crash)
            raise _failed(result.crash == "out of memory")
        return path

    def _job(self, source: Path, work: Path, task: Task) -> Job:
        source, work = source.absolute(), work.absolute()
        return Job(
            str(source), str(work), self._base, self._limits, self._is_base_strict, task=task
        )

    def _run(self, job: Job, work: Path) -> Result:
        """Files instead of pipes: no deadlock, no thread, and RLIMIT_FSIZE bounds the answer."""
        question, reply = work / "job.json", work / "result.json"
        result = self._ask_child(job, question, reply)
        if not result.needs_peft:
            return result
        if Path(result.folder) == work / "unpacked":
            job = replace(job, source=result.folder)
        return self._ask_server(job, question, reply)

    def _convert(self, source: Path, work: Path, rank: int) -> Conversion:
        """Leaves a LoRA in `work / "converted"`. Raises `AdapterRefused`."""
        question, reply = work / "convert.json", work / "conversion.json"
        job = self._job(source, work, "compile")
        result = self._ask_child(job, question, reply)
        _raise_if_refused(result)
        if not result.needs_peft:
            message = "The adapter is a LoRA already; publish it without `convert`."
            raise AdapterRefused((Refusal("cannot_convert", "convert", message),))
        if Path(result.folder) == work / "unpacked":
            job = replace(job, source=result.folder)
        job = replace(job, task="convert", convert_rank=rank)
        result = self._ask_server(job, question, reply)
        _raise_if_refused(result)
        if result.conversion is None or Path(result.folder) != work.absolute() / "converted":
            _log.warning("conversion failed: %s", result.crash)
            raise _failed(result.crash == "out of memory")
        return result.conversion

    def _ask_child(self, job: Job, question: Path, reply: Path) -> Result:
        question.write_bytes(job.encode(self._encoded_base))
        return self._result(self._run_child(question, reply, Path(job.work)), reply)

    def _ask_server(self, job: Job, question: Path, reply: Path) -> Result:
        question.write_bytes(job.encode(self._encoded_base))
        reply.unlink(missing_ok=True)
        seconds = self._limits.compile_timeout_s + _GRACE_SECONDS
        return self._result(self._server.run(question, reply, seconds), reply)

    def _run_child(self, question: Path, reply: Path, work: Path) -> int:
        with question.open("rb") as stdin, reply.open("wb") as stdout:
            child = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", "service.compiler", str(os.getpid())],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                cwd=work,
                env=child_environment(),
                start_new_session=True,
            )
            return self._wait(child)

    def _result(self, status: int, reply: Path) -> Result:
        if status != 0:
            _log.warning("compiler child ended with status %s", status)
            raise _failed(status in (-signal.SIGKILL, -signal.SIGALRM, -signal.SIGXCPU))
        with reply.open("rb") as file:
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


def _raise_if_refused(result: Result) -> None:
    if result.refusals:
        raise AdapterRefused(result.refusals)
    if result.too_large:
        raise UploadTooLarge(result.too_large)


def _is_plausible(result: Result, source: Path, work: Path) -> bool:
    """A child that was taken over must not make the server move files of its choice."""
    folder, compiled, text = Path(result.folder), Path(result.compiled), work / "text"
    return (
        folder in (source, work / "unpacked")
        and compiled == work / "compiled"
        and not compiled.is_symlink()
        and result.files == VERSION_FILES
        and not any((folder / name).is_symlink() for name in result.files)
        and set(result.text_files) <= set(TEXT_FILES)
        and len(set(result.text_files)) == len(result.text_files)
        and not any(
            path.is_symlink() for path in (text, *(text / name for name in result.text_files))
        )
    )


def _failed(is_too_expensive: bool) -> AdapterRefused:
    if is_too_expensive:
        message = "Checking the adapter took more time or memory than allowed."
        return AdapterRefused((Refusal("too_expensive", "upload", message),))
    message = "The adapter could not be compiled."
    return AdapterRefused((Refusal("compile_failed", "upload", message),))
