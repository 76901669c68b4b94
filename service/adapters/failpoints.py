"""Named places where a test can kill the process, to prove that no crash leaves a mixture.

`REPERTOIRE_FAILPOINT=<name>` makes the process SIGKILL itself there. Every write, fsync, link and
rename of the store goes through `durable.py`, which visits the points of its label in this order.
"""

import os
import signal

VARIABLE = "REPERTOIRE_FAILPOINT"

_FILE_STEPS = (
    "before_write",
    "after_write",
    "before_fsync",
    "after_fsync",
)
_PUBLISH_STEPS = (
    "before_rename",
    "after_rename",
    "before_dir_fsync",
    "after_dir_fsync",
)

LABELS: dict[str, tuple[str, ...]] = {
    "object.file": _FILE_STEPS,
    "object.record": _FILE_STEPS,
    "object": _PUBLISH_STEPS,
    "journal.file": _FILE_STEPS,
    "journal": _PUBLISH_STEPS,
    "cache.file": _FILE_STEPS,
    "cache": _PUBLISH_STEPS,
    "folders.file": _FILE_STEPS,
    "folders": _PUBLISH_STEPS,
    "usage.file": _FILE_STEPS,
    "usage": _PUBLISH_STEPS,
    "remove": ("before_rename", "after_rename", "after_delete"),
}

FAILPOINTS: tuple[str, ...] = tuple(
    f"{label}.{step}" for label, steps in LABELS.items() for step in steps
)


def failpoint(label: str, step: str) -> None:
    if step not in LABELS[label]:
        raise ValueError(f"unknown fail point {label}.{step}")
    if os.environ.get(VARIABLE) == f"{label}.{step}":
        os.kill(os.getpid(), signal.SIGKILL)
