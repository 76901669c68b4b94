"""The disk tier with compiled forms that are made up: budgets, order, damage, single flight."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.compiled import CompiledHeader, read_header, write_compiled
from service.adapters.disk_cache import DiskCache
from service.base import BaseDescription
from service.core import AdapterRef
from service.errors import AdapterLoadFailed, AdapterRefused, Refusal

BASE = BaseDescription(
    name="b", folder="/b", fingerprint="f", architecture="x", dtype="float32", vocab_size=1,
    max_model_len=1, lane="ragged", kv_layers=(), output_module=None, sites=(), modules=(),
)  # fmt: skip
PAYLOAD = 1000


class Compiles:
    """Stands in for the child: writes a compiled form of a digest and counts."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0
        self.error: Exception | None = None

    def __call__(self, digest: str, work: Path) -> Path:
        self.calls[digest] += 1
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return write(work / "compiled", digest)


def write(path: Path, digest: str) -> Path:
    with path.open("wb") as file:
        write_compiled(file, CompiledHeader(digest, "f", "float32", PAYLOAD, ()), [bytes(PAYLOAD)])
    return path


def ref(number: int) -> AdapterRef:
    return AdapterRef("a", number, f"{number:064x}", PAYLOAD)


@pytest.fixture
def compiles() -> Compiles:
    return Compiles()


def cache_at(folder: Path, compiles: Compiles, budget: int = 1 << 20, base=BASE) -> DiskCache:
    cache = DiskCache(folder, budget, base, compiles)
    cache.start()
    return cache


def drafts(folder: Path) -> list[Path]:
    return [path for path in (folder / "tmp").glob("*/*") if path.name != "lock"]


def size_of_one(tmp_path: Path, compiles: Compiles) -> int:
    cache = cache_at(tmp_path / "probe", compiles)
    cache.open(ref(0)).close()
    return cache.stats().num_bytes


def read(cache: DiskCache, number: int) -> None:
    with cache.open(ref(number)) as file:
        header = read_header(file)
        assert header.digest == ref(number).digest
        assert len(file.read(header.payload_bytes)) == PAYLOAD


def test_hits_and_misses(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path, compiles)
    for _ in range(3):
        read(cache, 1)
    stats = cache.stats()
    assert (stats.misses, stats.hits, stats.loads, stats.num_adapters) == (1, 2, 1, 1)
    assert compiles.calls == {ref(1).digest: 1}


def test_the_least_recently_used_leaves(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path / "cache", compiles, 2 * size_of_one(tmp_path, compiles))
    for number in (1, 2, 1, 3):
        read(cache, number)
    assert [cache.has(ref(number).digest) for number in (1, 2, 3)] == [True, False, True]
    assert cache.stats().evictions == 1
    assert cache.stats().num_bytes <= cache.stats().budget_bytes
    assert len(list((tmp_path / "cache").glob("*.terms"))) == 2


def test_it_tells_what_it_has_and_that_this_has_changed(tmp_path: Path, compiles: Compiles) -> None:
    one = size_of_one(tmp_path, compiles)
    cache = cache_at(tmp_path / "cache", compiles, 2 * one)
    seen = []
    for number, numbers in ((1, [1]), (2, [1, 2]), (1, [2, 1]), (3, [1, 3])):
        read(cache, number)
        seen.append(cache.revision)
        assert cache.digests() == [ref(number).digest for number in numbers]
        assert cache.stats().num_bytes == len(numbers) * one
    assert seen[0] < seen[1] == seen[2] < seen[3]
    cache.drop(ref(3).digest)
    assert (cache.digests(), cache.stats().num_bytes) == ([ref(1).digest], one)
    assert cache.revision > seen[3]
    of_another_base = cache_at(tmp_path / "cache", compiles, base=replace(BASE, fingerprint="g"))
    assert of_another_base.digests() == []


def test_its_numbers_wait_for_no_disk(
    tmp_path: Path, compiles: Compiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_at(tmp_path, compiles)
    read(cache, 1)
    asking = threading.Thread(target=cache.stats, daemon=True)
    unlink = Path.unlink

    def slow_unlink(path: Path, missing_ok: bool = False) -> None:
        asking.start()
        asking.join(5.0)
        assert not asking.is_alive(), "the engine would stand still"
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", slow_unlink)
    cache.drop(ref(1).digest)
    assert not asking.is_alive()


def test_an_open_file_survives_its_eviction(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path / "cache", compiles, size_of_one(tmp_path, compiles))
    with cache.open(ref(1)) as file:
        read(cache, 2)
        assert not cache.has(ref(1).digest)
        assert read_header(file).digest == ref(1).digest


def test_one_larger_than_the_budget_is_still_served(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path, compiles, budget=10)
    read(cache, 1)
    read(cache, 2)
    assert cache.stats().num_adapters == 1


def test_the_order_of_use_survives_a_restart(tmp_path: Path, compiles: Compiles) -> None:
    one = size_of_one(tmp_path, compiles)
    cache = cache_at(tmp_path / "cache", compiles)
    for number in (1, 2, 3, 1):
        read(cache, number)
        time.sleep(0.01)
    dead = tmp_path / "cache" / "tmp" / "dead"
    dead.mkdir()
    (dead / "draft-x").write_bytes(b"half")
    again = cache_at(tmp_path / "cache", compiles, 2 * one)
    assert [again.has(ref(number).digest) for number in (1, 2, 3)] == [True, False, True]
    assert not dead.exists()
    assert drafts(tmp_path / "cache") == []
    read(cache, 4)  # the scratch folder of a living process stays


def test_another_base_has_its_own_forms(tmp_path: Path, compiles: Compiles) -> None:
    read(cache_at(tmp_path, compiles), 1)
    other = cache_at(tmp_path, compiles, base=replace(BASE, dtype="bfloat16"))
    assert not other.has(ref(1).digest)


@pytest.mark.parametrize("damage", ["truncate", "flip", "grow", "empty", "header", "foreign"])
def test_a_damaged_file_is_compiled_again(tmp_path: Path, compiles: Compiles, damage: str) -> None:
    read(cache_at(tmp_path, compiles), 1)
    path = next(tmp_path.glob("*.terms"))
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncate": data[:-1],
            "flip": data[:500] + bytes([data[500] ^ 1]) + data[501:],
            "grow": data + b"x",
            "empty": b"",
            "header": data[:20] + b"}" + data[21:],
            "foreign": write(tmp_path / "foreign", ref(2).digest).read_bytes(),
        }[damage]
    )
    cache = cache_at(tmp_path, compiles)
    read(cache, 1)
    assert compiles.calls[ref(1).digest] == 2
    read(cache, 1)
    assert compiles.calls[ref(1).digest] == 2
    assert path.read_bytes() == data


def test_a_file_that_vanishes_is_compiled_again(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path, compiles)
    read(cache, 1)
    next(tmp_path.glob("*.terms")).unlink()
    read(cache, 1)
    assert compiles.calls[ref(1).digest] == 2


def test_one_flight_per_version(tmp_path: Path, compiles: Compiles) -> None:
    compiles.seconds = 0.05
    cache = cache_at(tmp_path, compiles)
    gate = threading.Barrier(8)

    def ask(number: int) -> None:
        gate.wait()
        read(cache, number % 2)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert set(compiles.calls.values()) == {1}
    assert len(compiles.calls) == 2
    assert not cache._flights, "a server of a million versions would keep a lock of each"


def test_many_threads_and_a_small_budget(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path / "cache", compiles, 3 * size_of_one(tmp_path, compiles))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: read(cache, number * 7 % 11), range(300)))
    assert cache.stats().num_bytes <= cache.stats().budget_bytes
    assert len(list((tmp_path / "cache").glob("*.terms"))) == cache.stats().num_adapters


def test_failures_are_told_and_not_kept(tmp_path: Path, compiles: Compiles) -> None:
    cache = cache_at(tmp_path, compiles)
    refused = AdapterRefused((Refusal("x", "y", "z"),))
    for error in (AdapterLoadFailed("no"), OSError("disk"), refused):
        compiles.error = error
        with pytest.raises(AdapterLoadFailed):
            cache.open(ref(1))
    compiles.error = None
    read(cache, 1)
    assert drafts(tmp_path) == []
