"""Who computes in parallel: one thread of the process, the engine's.

GNU's runtime gives every thread that does so helpers of its own. They wait for the next parallel
region by spinning only as long as all of them and their owners are no more than the processors
(`do_spin` of libgomp's wait.h). From one more on each region, of which a step has hundreds, begins
with a helper that the kernel must wake.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

_NAMES = ("libgomp", "libiomp", "libomp")
_SOFT = 1
"""`omp_pause_soft`: the next parallel region starts helpers again."""


@cache
def openmp_runtime() -> ctypes.CDLL | None:
    """That of torch. Whoever links another one has helpers that spin beside torch's."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    found = sorted(path for path in paths if Path(path).name.startswith(_NAMES))
    return ctypes.CDLL(found[0], mode=ctypes.RTLD_GLOBAL) if found else None


def release_helpers() -> None:
    """End those that the calling thread has."""
    if runtime := openmp_runtime():
        runtime.omp_pause_resource_all(_SOFT)


def compute_alone() -> None:
    """The calling thread takes no helpers."""
    torch.get_num_threads()  # torch sets it for every thread at its first question
    if runtime := openmp_runtime():
        runtime.omp_set_num_threads(1)
