"""The compile server: `python -m service.compiler.tuners PARENT FOLDER QUANTIZATION DTYPE`, the
first being the id of the process that it ends with, the last two those of the base.

Holds peft and the mapped base, and never touches an upload itself: every job is a fork of it, which
dies with the job, since peft leaves the base changed after some uploads.

On stdin one job a line: `["QUESTION", "ANSWER"]`, two paths as JSON. On stdout one line each time:
`ready` once, then the exit status of every job.
"""

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

from service.base import Quantization
from service.compiler.answer import answer
from service.compiler.child_limits import confine, exit_with
from service.compiler.job import Job
from service.process_limits import give_way

if TYPE_CHECKING:
    from service.compiler.tuners.work import Work


def main() -> None:
    parent = int(sys.argv[1])
    give_way()
    exit_with(parent)
    warnings.simplefilter("ignore")
    work = _prepare(*sys.argv[2:])
    _say("ready")
    for line in sys.stdin:
        question, reply = json.loads(line)
        _say(str(_run_forked(Path(question), Path(reply), work)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _prepare(folder: str, quantization: str, dtype: str) -> "Work":
    # Imported late: a server whose parent has gone meanwhile ends before it loads anything.
    from service.compiler.tuners.work import Work

    work = Work.open(Path(folder), cast("Quantization", quantization), dtype)
    # What lives now lives on: a fork's collector must not touch, and so copy, these pages.
    gc.freeze()
    return work


def _run_forked(question: Path, reply: Path, work: "Work") -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            job = Job.decode(question.read_bytes())
            confine(job.limits, parent, data_bytes=_data_bytes() + work.widened_bytes(job))
            reply.write_bytes(answer(job, work.run).encode())
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _data_bytes() -> int:
    """Private memory that this process has already (`VmData`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main()
