"""The worker: `python -m service.templates LIMITS`, jobs on stdin, answers on stdout.

A job is `{"template", "variables"}`. An answer has `text`, or `problem` that continues a sentence
which begins with `The template`, or `is_exhausted` when the process must not go on.
"""

import json
import resource
import sys
from functools import lru_cache
from typing import Any

from service.process_limits import give_way, limit
from service.templates.environment import compile_template
from service.templates.frames import read_frame, write_frame
from service.templates.limits import RenderLimits

_MAX_PROBLEM_CHARS = 500

_compiled = lru_cache(maxsize=16)(compile_template)


def main() -> None:
    limits = RenderLimits(**json.loads(sys.argv[1]))
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    _confine(limits)
    write_frame(answers, {})
    while (job := read_frame(jobs)) is not None:
        _allow_cpu(limits.cpu_seconds)
        try:
            answer = _answer(job, limits.max_chars)
            write_frame(answers, answer)
        except MemoryError:
            write_frame(answers, {"is_exhausted": True})


def _answer(job: dict[str, Any], max_chars: int) -> dict[str, Any]:
    try:
        return {"text": _render(job, max_chars)}
    except _TooLong:
        return {"problem": f"renders more than {max_chars} characters"}
    except MemoryError:
        raise
    except Exception as error:
        return {"problem": f"refuses: {_first_line(error)}"}


class _TooLong(Exception):
    pass


def _render(job: dict[str, Any], max_chars: int) -> str:
    blocks: list[str] = []
    num_chars = 0
    for block in _compiled(job["template"]).generate(**job["variables"]):
        num_chars += len(block)
        if num_chars > max_chars:
            raise _TooLong
        blocks.append(block)
    return "".join(blocks)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    text = lines[0] if lines else type(error).__name__
    return text[:_MAX_PROBLEM_CHARS].encode("utf-8", "replace").decode()


def _confine(limits: RenderLimits) -> None:
    give_way()
    limit(resource.RLIMIT_DATA, limits.memory_bytes)
    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_CORE, 0)


def _allow_cpu(seconds: int) -> None:
    """Of this job alone; beyond it the system ends the process, even when nobody waits for it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
