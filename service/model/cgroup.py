"""What a container may take of the machine. Version 2 of control groups."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def free_memory(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes until the tightest limit that holds for this process; None where there is none.

    Pages of files do not count as used: they leave when something else needs the room.
    """
    free = (_free_in(group) for group in _groups(root, own))
    return min((one for one in free if one is not None), default=None)


def processors(root: Path = ROOT, own: Path = OWN) -> int | None:
    """As many as may compute all the time, at least one; None where there is no limit."""
    quotas = (_quota_of(group) for group in _groups(root, own))
    most = min((one for one in quotas if one is not None), default=None)
    return None if most is None else max(1, int(most))


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """That of the process and those around it; in a container the root is its own."""
    lines = own.read_text().splitlines() if own.exists() else []
    path = next((line[3:] for line in lines if line.startswith("0::/")), "/")
    group = root / path.lstrip("/")
    while True:
        yield group
        if group == root:
            return
        group = group.parent


def _free_in(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    if limit == "max":
        return None
    stat = {name: int(value) for name, value in (line.split() for line in lines)}
    files = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    return max(0, int(limit) - (used - files))


def _quota_of(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except OSError:
        return None
    return None if quota == "max" else int(quota) / int(period)
