"""What a child answers to a job, whatever happens while it works."""

from collections.abc import Callable

from service.compiler.job import Job, Result
from service.errors import AdapterRefused, UploadTooLarge


def answer(job: Job, work: Callable[[Job], Result]) -> Result:
    try:
        return work(job)
    except AdapterRefused as error:
        return Result(refusals=error.refusals)
    except UploadTooLarge as error:
        return Result(too_large=str(error))
    except MemoryError:
        return Result(crash="out of memory")
    except Exception as error:
        return Result(crash=f"{type(error).__name__}: {error}")
