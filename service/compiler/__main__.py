"""The child: `python -m service.compiler PARENT_PID`, one job on stdin, one result on stdout."""

import sys

from service.compiler.child_limits import confine
from service.compiler.job import Job, Result
from service.errors import AdapterRefused, UploadTooLarge


def main() -> None:
    job = Job.decode(sys.stdin.buffer.read())
    confine(job.limits, parent=int(sys.argv[1]))
    sys.stdout.buffer.write(_answer(job).encode())
    sys.stdout.buffer.flush()


def _answer(job: Job) -> Result:
    # Imported late, so that a limit too low even for numpy is a clean answer too.
    try:
        from service.compiler.compile import run_job

        return run_job(job)
    except AdapterRefused as error:
        return Result(refusals=error.refusals)
    except UploadTooLarge as error:
        return Result(too_large=str(error))
    except MemoryError:
        return Result(crash="out of memory")
    except Exception as error:
        return Result(crash=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
