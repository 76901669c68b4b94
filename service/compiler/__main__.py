"""The child: `python -m service.compiler PARENT_PID`, one job on stdin, one result on stdout."""

import sys

from service.compiler.answer import answer
from service.compiler.child_limits import confine
from service.compiler.job import Job, Result


def main() -> None:
    job = Job.decode(sys.stdin.buffer.read())
    confine(job.limits, parent=int(sys.argv[1]))
    sys.stdout.buffer.write(answer(job, _compile).encode())
    sys.stdout.buffer.flush()


def _compile(job: Job) -> Result:
    # Imported late, so that a limit too low even for numpy is a clean answer too.
    from service.compiler.compile import run_job

    return run_job(job)


if __name__ == "__main__":
    main()
