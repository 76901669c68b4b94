"""Originals in a bucket, with everybody at it at once: what a record speaks of is never lost."""

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from service.adapters.backends.contents import Removed
from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.generations import generations_of
from service.adapters.backends.s3.local_folders import LocalFolders
from service.adapters.backends.s3.original_objects import OriginalObjects
from service.errors import AdapterLoadFailed, StoreUnavailable
from service.store_location import BucketLocation
from tests.adapters.backends.s3.memory_bucket import MemoryBucket
from tests.adapters.backends.test_originals import A, outcome
from tests.s3_server import S3Server


def originals_in(bucket: MemoryBucket | Bucket, work: Path) -> OriginalObjects:
    (work / "tmp").mkdir(exist_ok=True)
    return OriginalObjects(bucket, LocalFolders(work / "local", work / "tmp", 1 << 20))


class Turns:
    """Of threads, whoever is drawn takes the next step."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._waiting: dict[int, threading.Event] = {}
        self._lock = threading.Condition()
        self._num_running = 0

    def __call__(self) -> None:
        mine = threading.Event()
        with self._lock:
            self._waiting[threading.get_ident()] = mine
            self._num_running -= 1
            self._lock.notify()
        mine.wait(30)

    def play(self, *actors: Callable[[], None]) -> None:
        def act(actor: Callable[[], None]) -> None:
            try:
                self()
                actor()
            except BaseException as error:
                failures.append(error)
            finally:
                with self._lock:
                    self._num_running -= 1
                    self._lock.notify()

        failures: list[BaseException] = []
        threads = [threading.Thread(target=act, args=(actor,)) for actor in actors]
        self._num_running = len(threads)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with self._lock:
                self._lock.wait_for(lambda: self._num_running == 0, 30)
                if not self._waiting:
                    continue
                chosen = self._waiting.pop(self._draw.choice(sorted(self._waiting)))
                self._num_running += 1
            chosen.set()
        for thread in threads:
            thread.join()
        assert failures == []


class World:
    """Publishers and collectors of one content, as `AdapterStore` has them; some die on the way."""

    def __init__(self, seed: int, work: Path) -> None:
        self.draw = random.Random(seed)
        self.bucket = MemoryBucket()
        self.originals = originals_in(self.bucket, work)
        self.made = outcome(work, A)
        self.is_recorded = False

    def publish(self) -> None:
        """Nobody here waits before he takes an upload for given up, so it may come again."""
        is_done = False
        while not is_done:
            with suppress(StoreUnavailable):
                self.originals.add(self.made)
                self.is_recorded = True
                if not self.originals.has(A):
                    self.originals.add(self.made)
                is_done = True

    def collect(self) -> None:
        if not self.is_recorded:
            self._settle([self.originals.remove(A)])

    def collect_and_die(self) -> None:
        if not self.is_recorded:
            self.originals.remove(A)

    def settle(self) -> None:
        self._settle(self.originals.removed())

    def _settle(self, removed: list[Removed]) -> None:
        is_kept = self.is_recorded
        for one in removed:
            if is_kept:
                one.put_back()
            else:
                one.forget()


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_in_whatever_order_all_act_what_a_record_speaks_of_is_there(
    tmp_path: Path, first: int
) -> None:
    for seed in range(first, first + 50):
        work = tmp_path / str(seed)
        work.mkdir()
        world = World(seed, work)
        if seed % 2:
            world.originals.add(world.made)
        actors = [world.publish, world.collect, world.collect, world.settle, world.collect_and_die]
        turns = world.bucket.turn = Turns(world.draw)
        turns.play(*actors)
        world.bucket.turn = lambda: None
        assert world.is_recorded
        if seed % 3:
            world.settle()
        assert (world.originals.folder(A) / "adapter_config.json").exists(), f"seed {seed}"
        assert world.originals.has(A), f"seed {seed}: it is lost"
        for _ in range(3):
            world.settle()
        assert world.originals.has(A), f"seed {seed}: whoever tidied up took it away"
        left = list(generations_of(world.bucket.listing("objects/")))
        assert all(one.next_state % 2 and one.files for one in left), f"seed {seed}: garbage"
        world.is_recorded = False
        world.collect()
        world.settle()
        assert world.bucket.objects == {}, f"seed {seed}: something is left for ever"


@pytest.fixture
def originals(bucket: Bucket, tmp_path: Path) -> OriginalObjects:
    return originals_in(bucket, tmp_path)


def test_what_somebody_died_over_writing_counts_for_nothing_and_goes(
    originals: OriginalObjects, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(key: str, data: bytes) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "create", die)
        with pytest.raises(StoreUnavailable):
            originals.add(outcome(tmp_path, A))
    assert not originals.has(A)
    assert originals.listing() == {}
    originals.remove(A).forget()
    (left,) = originals.removed()
    assert left.removed_at > 0
    originals.add(outcome(tmp_path, A))
    left.put_back()
    assert originals.removed() == []
    assert originals.has(A)
    assert originals.listing()[A].num_bytes == sum(
        path.stat().st_size for path in originals.folder(A).iterdir()
    )


def test_an_upload_that_was_given_up_is_told_so(
    originals: OriginalObjects, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = bucket.create

    def settle_first(key: str, data: bytes) -> None:
        monkeypatch.undo()
        for one in originals.removed():
            one.on_to("gone")
        create(key, data)

    monkeypatch.setattr(bucket, "create", settle_first)
    with pytest.raises(StoreUnavailable, match="send it again"):
        originals.add(outcome(tmp_path, A))


def test_a_damaged_file_is_not_used_but_another_copy_is(
    originals: OriginalObjects, s3: S3Server, location: BucketLocation, tmp_path: Path
) -> None:
    originals.add(outcome(tmp_path, A))
    key = next(one for one in s3.keys(location.bucket) if one.endswith("config.json"))
    target = {"Bucket": location.bucket, "Key": key}
    metadata = s3.client.head_object(**target)["Metadata"]
    s3.client.put_object(**target, Body=b"other", Metadata=metadata)
    with pytest.raises(AdapterLoadFailed):
        originals.folder(A)
    removed = originals.remove(A)
    originals.add(outcome(tmp_path, A))
    removed.put_back()
    assert (originals.folder(A) / "adapter_config.json").read_text() == "adapter_config.json data"


def test_copies_here_stay_within_their_budget(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    folders = LocalFolders(tmp_path / "local", tmp_path / "tmp", budget_bytes=25)

    def fetch(target: Path) -> None:
        (target / "file").write_bytes(bytes(10))

    paths = [folders.get(name, fetch) for name in "abc"]
    assert all(path.exists() for path in paths), "somebody may still read them"

    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    assert folders.known("a") == paths[0]
    folders.get("d", fetch)
    assert [path.exists() for path in paths] == [True, False, False]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_half_a_copy_is_none(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    folders = LocalFolders(tmp_path / "local", tmp_path / "tmp", budget_bytes=25)

    def fail(target: Path) -> None:
        (target / "file").write_bytes(bytes(10))
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        folders.get("a", fail)
    assert folders.known("a") is None
    assert list((tmp_path / "tmp").iterdir()) == []
