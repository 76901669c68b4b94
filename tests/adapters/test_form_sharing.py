"""Disk tiers of replicas that share forms: one compiles, all use it, and nothing depends on it."""

from pathlib import Path

import pytest

from service.adapters.backends.contents import SharedForms
from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.form_files import FormFiles
from service.adapters.collector import GRACE_S, Collector
from service.adapters.disk_cache import DiskCache
from service.adapters.forms import FormFolder
from service.adapters.limits import AdapterLimits
from service.adapters.operations import Delete, Purge
from service.adapters.store import AdapterStore
from service.errors import StoreFull, StoreUnavailable
from tests.adapters.test_disk_cache import BASE, Compiles, drafts, read, ref, write
from tests.adapters.test_store import outcome

BUDGET = 1 << 20


@pytest.fixture
def shared(tmp_path: Path) -> FormFiles:
    (tmp_path / "tmp").mkdir()
    return FormFiles(tmp_path / "shared", tmp_path / "tmp")


@pytest.fixture
def compiles() -> Compiles:
    return Compiles()


def replica(folder: Path, compiles: Compiles, shared: SharedForms) -> DiskCache:
    cache = DiskCache(folder, BUDGET, BASE, compiles, shared)
    cache.start()
    return cache


def shared_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "shared").iterdir()
    return path


def test_a_form_is_compiled_once_for_all(
    tmp_path: Path, compiles: Compiles, shared: FormFiles
) -> None:
    one, other = (replica(tmp_path / name, compiles, shared) for name in "xy")
    for cache in (one, other, one, other):
        read(cache, 1)
    assert compiles.calls == {ref(1).digest: 1}
    tiers = [cache.tiers()["store"] for cache in (one, other)]
    assert [(tier.hits, tier.misses) for tier in tiers] == [(0, 1), (1, 0)]
    assert other.stats().loads == 1
    assert drafts(tmp_path / "y") == []


def test_what_a_publish_has_compiled_is_there_for_the_others(
    tmp_path: Path, compiles: Compiles, shared: FormFiles
) -> None:
    one, other = (replica(tmp_path / name, compiles, shared) for name in "xy")
    one.put(ref(1).digest, write(tmp_path / "compiled", ref(1).digest))
    read(other, 1)
    assert compiles.calls == {}


def test_a_damaged_form_is_compiled_and_replaced(
    tmp_path: Path, compiles: Compiles, shared: FormFiles
) -> None:
    read(replica(tmp_path / "x", compiles, shared), 1)
    path = shared_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    other = replica(tmp_path / "y", compiles, shared)
    read(other, 1)
    assert compiles.calls[ref(1).digest] == 2
    assert other.tiers()["store"].misses == 1
    assert path.read_bytes() == data
    read(replica(tmp_path / "z", compiles, shared), 1)
    assert compiles.calls[ref(1).digest] == 2


class Away(FormFiles):
    def fetch(self, name: str, target: Path) -> bool:
        return False

    def put(self, name: str, compiled: Path) -> None:
        raise StoreFull("full")

    def drop(self, name: str) -> None:
        raise StoreUnavailable("away")


def test_nothing_depends_on_what_is_shared(tmp_path: Path, compiles: Compiles) -> None:
    cache = replica(tmp_path / "x", compiles, Away(tmp_path, tmp_path))
    read(cache, 1)
    cache.put(ref(2).digest, write(tmp_path / "compiled", ref(2).digest))
    cache.drop(ref(1).digest)
    read(cache, 2)
    assert not cache.has(ref(1).digest)


def test_who_is_alone_shares_nothing_but_looks_after_what_was_shared(tmp_path: Path) -> None:
    assert folder_backends(tmp_path).forms is None
    assert folder_backends(tmp_path, "x").forms is not None
    (tmp_path / ".repertoire/forms").mkdir(parents=True)
    assert folder_backends(tmp_path).forms is not None


def test_forms_go_with_their_originals(tmp_path: Path) -> None:
    store = AdapterStore(folder_backends(tmp_path, "x"), AdapterLimits())
    store.open()
    store.publish("n", outcome(store, "a"), 5)
    names = [f"{letter * 64}-{'0' * 16}.terms" for letter in "ab"]
    (tmp_path / "compiled").write_bytes(b"x" * 10)
    for name in names:
        store.forms.put(name, tmp_path / "compiled")
    collector = Collector(store, FormFolder(tmp_path / "none"), 0.0)
    now = store.forms.listing()[names[1]].written_at
    assert collector.collect(now + GRACE_S - 1).is_nothing, "somebody may be about to publish it"
    freed = collector.collect(now + GRACE_S + 1, is_dry_run=True)
    assert (freed.num_forms, freed.form_bytes) == (1, 10)
    assert len(store.forms.listing()) == 2
    collector.collect(now + GRACE_S + 1)
    assert set(store.forms.listing()) == {names[0]}, "the other one's original is a version's"
    store.change("n", lambda _: Delete(int(now)))
    collector.collect(now + GRACE_S - 1)
    assert set(store.forms.listing()) == {names[0]}
    store.change("n", lambda history: Purge((1,), int(now)))
    collector.collect(now + GRACE_S + 1)
    assert store.forms.listing() == {}
    store.close()
