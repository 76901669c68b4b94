"""Two replicas over one store: nobody's work is lost to the other, and both come to one state."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.backends import folder_store
from service.adapters.collector import GRACE_S, Collector
from service.adapters.forms import FormFolder
from service.adapters.limits import AdapterLimits
from service.adapters.operations import Delete, Move
from service.adapters.store import AdapterStore
from service.errors import ConfigurationError
from tests.adapters.places import FolderPlace, Place
from tests.adapters.test_store import outcome


def replica(place: Place, name: str | None) -> AdapterStore:
    store = AdapterStore(place.backends(name), AdapterLimits())
    store.open()
    return store


@pytest.fixture
def pair(place: Place) -> Iterator[list[AdapterStore]]:
    stores = [replica(place, name) for name in "xy"]
    yield stores
    for store in stores:
        store.close()


def test_what_one_publishes_the_other_reads_when_it_is_told(pair) -> None:
    one, other = pair
    one.publish("team/n", outcome(one, "a"), 5)
    assert other.history("team/n").current is None
    assert one.lengths() == {"@team/n": 1}
    assert other.refresh("team/n")
    assert not other.refresh("team/n")
    assert other.history("team/n").current == 1
    assert other.manifest("a" * 64) == one.manifest("a" * 64)
    assert other.lengths() == one.lengths()


def test_reconciling_finds_everything_that_nobody_told(pair) -> None:
    one, other = pair
    for name, letter in (("n", "a"), ("m", "c"), ("k", "d")):
        one.publish(name, outcome(one, letter), 5)
    assert other.reconcile() == ["k", "m", "n"]
    other.change("m", lambda _: Delete(6))
    one.publish("k", outcome(one, "b"), 6)
    assert other.reconcile() == ["k"]
    assert one.reconcile() == ["m"]
    assert one.names() == other.names() == ["k", "n"]


def test_versions_of_one_name_are_consecutive_whoever_publishes(pair) -> None:
    gate = threading.Barrier(2)

    def publish(store: AdapterStore, letters: str) -> None:
        gate.wait()
        for letter in letters:
            store.publish("n", outcome(store, letter), 5)

    threads = [
        threading.Thread(target=publish, args=args)
        for args in zip(pair, ("0123456789", "abcdef"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in pair:
        store.reconcile()
    found = [{n: v.digest[0] for n, v in one.history("n").versions.items()} for one in pair]
    assert found[0] == found[1]
    assert sorted(found[0]) == list(range(1, 17))
    assert sorted(found[0].values()) == sorted("0123456789abcdef")


def test_what_is_decided_is_decided_on_what_the_store_has(pair) -> None:
    """A replica that has heard of nothing yet still does not answer from its memory."""
    one, other = pair
    one.publish("n", outcome(one, "a"), 5)
    other.refresh("n")
    one.publish("n", outcome(one, "b"), 6)
    again = other.publish("n", outcome(other, "a"), 7)
    assert again.is_created, "it was current as far as the replica knew"
    seen = []
    one.change("n", lambda history: seen.append(history.num_operations))
    assert seen == [3]


def test_a_folder_that_both_take_over_is_one_version(pair) -> None:
    one, other = pair
    one.publish_once("n", outcome(one, "a"), 5)
    other.publish_once("n", outcome(other, "a"), 5)
    assert other.history("n").num_operations == 1
    one.change("n", lambda _: Delete(6))
    other.publish_once("n", outcome(other, "a"), 7)
    assert other.history("n").current is None, "what was deleted does not come back"


def test_one_alone_and_a_fleet_exclude_each_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_store, "_LOCK_ATTEMPTS", 2)
    alone = replica(place, None)
    with pytest.raises(ConfigurationError, match="another process"):
        replica(place, "x")
    alone.close()
    member = replica(place, "x")
    with pytest.raises(ConfigurationError, match="another process"):
        alone.open()
    member.close()
    alone.open()
    alone.close()


def test_two_replicas_with_one_id_are_told_apart_by_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.scratch._PATIENCE_S", 0.2)
    place = FolderPlace(tmp_path)
    member = replica(place, "x")
    with pytest.raises(ConfigurationError, match="'x' runs already"):
        replica(place, "x")
    member.close()
    replica(place, "x").close()


def test_each_has_a_temporary_folder_that_others_leave_alone(tmp_path: Path) -> None:
    one = replica(FolderPlace(tmp_path), "x")
    (one.temporary / "upload-1").mkdir()
    dead = tmp_path / ".repertoire/tmp/dead"
    dead.mkdir()
    (dead / "upload-2").touch()
    other = replica(FolderPlace(tmp_path), "y")
    assert (one.temporary / "upload-1").exists()
    assert not dead.exists()
    assert one.temporary != other.temporary
    one.close()
    other.close()
    assert not one.temporary.exists()


def test_garbage_that_is_young_may_be_somebodys(pair, tmp_path: Path) -> None:
    one, other = pair
    one._originals.add(outcome(one, "a"))
    collector = Collector(other, FormFolder(tmp_path / "none"), 0.0)
    written_at = one.stored_objects()["a" * 64].written_at
    assert collector.collect(written_at + GRACE_S - 1).is_nothing
    assert collector.collect(written_at + GRACE_S + 1).num_objects == 1
    assert one.stored_objects() == {}


def test_what_a_dead_collector_put_aside_is_settled_by_the_next(pair, tmp_path: Path) -> None:
    one, other = pair
    one.publish("n", outcome(one, "a"), 5)
    one._originals.add(outcome(one, "b"))
    removed = [one._originals.remove(letter * 64) for letter in "ab"]
    collector = Collector(other, FormFolder(tmp_path / "none"), 0.0)
    late = removed[0].removed_at + GRACE_S
    collector.collect(late - 1)
    assert len(one._originals.removed()) == 2, "its remover may be at it"
    collector.collect(late + 1)
    assert one._originals.removed() == []
    assert (one.has_object("a" * 64), one.has_object("b" * 64)) == (True, False)


def test_what_was_put_aside_by_mistake_is_found_by_whoever_needs_it(pair) -> None:
    one, other = pair
    one.publish("n", outcome(one, "a"), 5)
    one._originals.remove("a" * 64)
    assert (other.object_folder("a" * 64) / "adapter_config.json").is_file()
    assert one.has_object("a" * 64)


def test_a_move_that_two_make_has_one_winner(pair) -> None:
    one = pair[0]
    one.publish("n", outcome(one, "a"), 5)
    won = []

    def move(store: AdapterStore, alias: str):
        def decide(history):
            if history.num_operations != 1:
                return None  # as a stale If-Match
            return Move(6, aliases=((alias, ((1, 1),)),))

        return store.change("n", decide)

    threads = [
        threading.Thread(target=lambda s=s, a=a: won.append(move(s, a)))
        for s, a in zip(pair, ("left", "right"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, True]
