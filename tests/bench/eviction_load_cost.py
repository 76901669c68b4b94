"""What a load costs on this machine: compiled files of several sizes, read as the loader does."""

import hashlib
from pathlib import Path
from statistics import median
from time import perf_counter

from service.adapters.compiled import CompiledHeader, write_compiled
from service.adapters.disk_cache import DiskCache
from service.core import AdapterRef
from service.model.host_adapter import read_host_adapter
from tests.bench.eviction_trace import MIB, LoadCost
from tests.fakes import base_description

_SIZES = (MIB // 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB)
_REPEATS = 7


def measure(work: Path) -> LoadCost:
    """A line through the medians; files are in the page cache, as the second load of a day is."""
    base = base_description()

    def write(digest: str, folder: Path) -> Path:
        size = sizes[digest]
        header = CompiledHeader(digest, base.fingerprint, base.dtype, size, ())
        with (folder / "compiled").open("wb") as file:
            write_compiled(file, header, [bytes(MIB // 4)] * (size // (MIB // 4)))
        return folder / "compiled"

    sizes = {hashlib.sha256(str(size).encode()).hexdigest(): size for size in _SIZES}
    cache = DiskCache(work, 1 << 40, base, write)
    cache.start()
    points = [
        (size, _seconds(cache, AdapterRef("a", 1, digest, size))) for digest, size in sizes.items()
    ]
    return _line(points)


def _seconds(cache: DiskCache, ref: AdapterRef) -> float:
    cache.open(ref).close()
    seconds = []
    for _ in range(_REPEATS):
        started = perf_counter()
        with cache.open(ref) as file:
            read_host_adapter(file)
        seconds.append(perf_counter() - started)
    return median(seconds)


def _line(points: list[tuple[int, float]]) -> LoadCost:
    """Through the smallest and the largest: what lies between is not far from it."""
    (small, fast), (large, slow) = min(points), max(points)
    s_per_byte = (slow - fast) / (large - small)
    return LoadCost(max(fast - s_per_byte * small, 1e-5), s_per_byte)
