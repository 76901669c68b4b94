"""The store with prepared content: layout, damage, other processes, no space."""

import errno
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.adapters import durable
from service.adapters.backends import folder_store
from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.record_files import RecordFiles
from service.adapters.compiling import CompileOutcome
from service.adapters.files import VERSION_FILES
from service.adapters.journal import Journal
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.operations import Delete, Purge
from service.adapters.store import AdapterStore
from service.errors import ConfigurationError, StoreFull


def open_store(root: Path, **limits: int) -> AdapterStore:
    store = AdapterStore(folder_backends(root), AdapterLimits(**limits))
    store.open()
    return store


def outcome(store: AdapterStore, letter: str) -> CompileOutcome:
    folder = store.temporary / f"staged-{letter}"
    folder.mkdir(exist_ok=True)
    for name in VERSION_FILES:
        (folder / name).write_text(letter)
    manifest = Manifest(letter * 64, "lora", 1, ("q",), 10, (), ())
    return CompileOutcome(manifest, folder, VERSION_FILES, folder / "none", (), ())


def test_the_layout_on_disk(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    private = tmp_path / ".repertoire"
    assert {path.name for path in (private / "objects" / ("a" * 64)).iterdir()} == {
        *VERSION_FILES,
        "record.json",
    }
    record = json.loads((private / "journal" / "n" / "0000000000.json").read_text())
    assert (record["op"], record["number"], record["digest"]) == ("publish", 1, "a" * 64)


def test_a_second_process_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    monkeypatch.setattr(folder_store, "_LOCK_ATTEMPTS", 2)
    with pytest.raises(ConfigurationError, match="another process"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from service.adapters.store import AdapterStore;"
        "from service.adapters.backends.folder_store import folder_backends;"
        "from service.adapters.limits import AdapterLimits;"
        "AdapterStore(folder_backends(Path(sys.argv[1])), AdapterLimits()).open();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    open_store(tmp_path).close()


def test_leftovers_and_unreferenced_objects_go_at_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    store.close()
    private = tmp_path / ".repertoire"
    (private / "tmp" / "upload-x").mkdir()
    (private / "tmp" / "upload-x" / "f").touch()
    (private / "tmp" / "journal-x").touch()
    (private / "objects" / ("b" * 64)).mkdir()
    store = open_store(tmp_path)
    assert list((private / "tmp").iterdir()) == []
    assert [path.name for path in (private / "objects").iterdir()] == ["a" * 64]


def test_a_writer_that_was_faster_is_respected(tmp_path: Path) -> None:
    """Two writers of one journal, as in a shared folder: numbers stay unique."""
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    other = Journal(RecordFiles(tmp_path / ".repertoire", store.temporary))
    operation = other.replay("n").operation_for("c" * 64, 6)
    other.append("n", 1, operation)
    assert store.publish("n", outcome(store, "b"), 7).version.number == 3
    assert other.replay("n").current == 3


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"op":"fly"}', '{"op":"publish"}', "\x00"])
def test_a_damaged_journal_stops_the_start(tmp_path: Path, content: str) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    store.close()
    (tmp_path / ".repertoire" / "journal" / "n" / "0000000001.json").write_text(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        open_store(tmp_path)


def test_a_gap_in_a_journal_stops_the_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for letter in "abc":
        store.publish("n", outcome(store, letter), 5)
    store.close()
    (tmp_path / ".repertoire" / "journal" / "n" / "0000000001.json").unlink()
    with pytest.raises(ConfigurationError, match="gap"):
        open_store(tmp_path)


def test_a_damaged_summary_is_told_and_repaired_by_uploading_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    store.close()
    record = store.object_folder("a" * 64) / "record.json"
    record.write_text("{")
    store = open_store(tmp_path)
    assert store.manifest("a" * 64) is None
    store.publish("m", outcome(store, "a"), 6)
    assert store.manifest("a" * 64) is not None
    assert json.loads(record.read_text())


@pytest.mark.parametrize("step", ["write_file", "create_once", "rename", "sync_file"])
def test_a_full_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(durable, step, fail)
        with pytest.raises(StoreFull):
            store.publish("n", outcome(store, "b"), 6)
    assert store.history("n").current == 1
    assert store.num_bytes() == 10
    assert not store.has_object("b" * 64)
    assert store.publish("n", outcome(store, "b"), 7).version.number == 2


def test_budgets(tmp_path: Path) -> None:
    store = open_store(tmp_path, store_budget_bytes=20, max_adapters=2)
    store.publish("n", outcome(store, "a"), 5)
    store.publish("n", outcome(store, "b"), 5)
    with pytest.raises(StoreFull, match="20 bytes"):
        store.publish("n", outcome(store, "c"), 5)
    with pytest.raises(StoreFull):
        store.check_room(1)
    store.publish("m", outcome(store, "a"), 5)
    with pytest.raises(StoreFull, match="2 adapters"):
        store.publish("k", outcome(store, "a"), 5)
    store.change("n", lambda history: Delete(9))
    both = ["a" * 64, "b" * 64]
    assert store.remove_unreferenced(both) == [], "what is deleted keeps its content"
    store.change("n", lambda history: Purge((1, 2), 10))
    assert store.remove_unreferenced(both) == ["b" * 64]
    store.publish("k", outcome(store, "c"), 5)


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        open_store(tmp_path / "file")


def test_a_journal_of_before_deletions_could_be_undone_is_read(tmp_path: Path) -> None:
    """Its deletes took the content with them at once, so nothing is promised of it."""
    log = tmp_path / ".repertoire" / "journal" / "n"
    log.mkdir(parents=True)
    records = (
        {"op": "publish", "number": 1, "digest": "a" * 64, "created_at": 5, "verdict": None},
        {"op": "delete", "created_at": 6},
        {"op": "publish", "number": 2, "digest": "b" * 64, "created_at": 7},
    )
    for number, record in enumerate(records):
        (log / f"{number:010d}.json").write_text(json.dumps(record))
    store = open_store(tmp_path)
    history = store.history("n")
    assert (history.current, list(history.versions), list(history.deleted)) == (2, [2], [1])
    assert store.publish("n", outcome(store, "a"), 8).version.number == 3
    assert store.manifest("a" * 64) is not None


def test_content_and_adapters_have_owners(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    store.publish("team/n", outcome(store, "a"), 5)
    store.publish("team/m", outcome(store, "b"), 5)
    a, b = "a" * 64, "b" * 64
    assert (store.is_live(b), store.is_live(b, "team"), store.is_live(b, "default")) == (
        True,
        True,
        False,
    )
    store.change("team/n", lambda _: Delete(6))
    assert (store.is_live(a), store.is_live(a, "team"), store.keeps(a, "team")) == (
        True,
        False,
        True,
    )
    assert not store.keeps(b, "default")
    assert not store.owns("nobody", with_deleted=True)
    store.change("team/m", lambda _: Delete(6))
    assert (store.owns("team", with_deleted=False), store.owns("team", with_deleted=True)) == (
        False,
        True,
    )
    store.close()
    again = open_store(tmp_path)
    assert again.names() == ["n"], "another tenant's name is another one, after a restart too"
    assert again.owns("team", with_deleted=True)


def test_looks_from_other_threads_see_whole_states(tmp_path: Path) -> None:
    """A name always has a current version here, and a deleted one none."""
    store = open_store(tmp_path)
    failures: list[BaseException] = []
    is_over = threading.Event()

    def look() -> None:
        try:
            while not is_over.is_set():
                store.num_bytes()
                store.live_digests()
                store.kept_digests("default")
                store.kept_digests()
                for name in store.names():
                    history = store.history(name)
                    numbers = set(history.versions)
                    assert (history.current in numbers) or not (numbers or history.versions)
                store.names_with_deleted()
        except BaseException as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for number in range(60):
            name = f"n{number}"
            store.publish(name, outcome(store, "abcdef"[number % 6]), 5)
            if number % 2:
                store.change(name, lambda _: Delete(6))
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(before)
    assert failures == []


def test_a_history_that_somebody_looks_at_does_not_change(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish("n", outcome(store, "a"), 5)
    seen = store.history("n")
    store.publish("n", outcome(store, "b"), 6)
    store.change("n", lambda _: Delete(7))
    assert (seen.current, sorted(seen.versions), seen.num_operations) == (1, [1], 1)
    assert (seen.digests, seen.trail, seen.deleted) == ({"a" * 64}, [], {})
