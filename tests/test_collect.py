"""`gc` on a store that no server runs on."""

import json
import time
from pathlib import Path

import pytest

from service.__main__ import main
from service.adapters.operations import Delete, DeleteVersion, Restore
from service.adapters.store import AdapterStore
from service.collect import collect_offline
from service.errors import ConfigurationError
from service.settings import resolve_settings
from tests.adapters.test_store import open_store, outcome

LONG_AGO = int(time.time()) - 1000
VARIANT = "0" * 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`n` is deleted with two contents; `m` has one of them and has dropped another."""
    store = open_store(tmp_path / "store")
    for letter in "ab":
        store.publish("n", outcome(store, letter), LONG_AGO)
    for letter in "cb":
        store.publish("m", outcome(store, letter), LONG_AGO)
    store.change("n", lambda history: Delete(LONG_AGO))
    store.change("m", lambda history: DeleteVersion(1, LONG_AGO))
    store.close()
    (tmp_path / "store" / ".repertoire" / "objects" / ("d" * 64)).mkdir()
    forms = tmp_path / "cache" / "adapters"
    forms.mkdir(parents=True)
    for letter in "abf":
        (forms / f"{letter * 64}-{VARIANT}.terms").write_text("form")
    return tmp_path / "store"


def objects(root: Path) -> str:
    return "".join(sorted(path.name[0] for path in (root / ".repertoire" / "objects").iterdir()))


def forms(root: Path) -> str:
    return "".join(sorted(path.name[0] for path in (root.parent / "cache/adapters").iterdir()))


def collect(root: Path, retention_s: float, **options: bool):
    settings = resolve_settings(
        {
            "base_model": "none",
            "adapters_store": root,
            "cache_dir": root.parent / "cache",
            "deleted_retention_s": retention_s,
        }
    )
    return collect_offline(settings, **options)


def test_a_dry_run_says_what_a_run_does(root: Path) -> None:
    planned = collect(root, 60.0, is_dry_run=True)
    assert (objects(root), forms(root)) == ("abcd", "abf")
    freed = collect(root, 60.0)
    assert freed.freed == planned.freed
    assert [(one.name, one.number) for one in freed.freed.versions] == [
        ("m", 1), ("n", 1), ("n", 2)
    ]  # fmt: skip
    assert objects(root) == "b", "the other name has it"
    assert forms(root) == "bf", "of what this store never had, nothing goes"
    assert collect(root, 60.0).freed.is_nothing


def test_what_was_freed_is_in_the_audit_log(root: Path) -> None:
    collect(root, 60.0, is_dry_run=True)
    collect(root, 60.0)
    collect(root, 60.0)
    store = open_store(root)
    (log,) = store.logs.names("audit")
    (entry,) = store.logs.read(f"audit/{log}")
    store.close()
    assert (entry["action"], entry["actor"]["key_id"]) == ("gc", "server")
    assert entry["before"] == {"versions": ["m@1", "n@1", "n@2"]}


def test_what_can_be_restored_stays(root: Path) -> None:
    freed = collect(root, 1e8).freed
    assert (freed.versions, objects(root)) == ((), "abc"), "only what no journal speaks of went"
    store = open_store(root)
    store.change("n", lambda history: Restore(6))
    assert store.history("n").current == 2


def test_a_store_that_is_served_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.adapters.backends.folder_store._LOCK_ATTEMPTS", 2)
    server = open_store(root)
    with pytest.raises(ConfigurationError, match="another process"):
        collect(root, 0)
    server.close()


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no adapter store"):
        collect(tmp_path / "nowhere", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_was_faster_keeps_what_it_restored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is made on one state and the record decided on another."""
    change = AdapterStore.change

    def restore_first(store: AdapterStore, name: str, decide) -> bool:
        if name == "n":
            change(store, "n", lambda history: Restore(6))
        return change(store, name, decide)

    monkeypatch.setattr(AdapterStore, "change", restore_first)
    collect(root, 60.0)
    monkeypatch.undo()
    assert objects(root) == "ab"
    assert open_store(root).history("n").current == 2


def test_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--adapters-store", str(root), "--cache-dir", str(root.parent / "cache")]
    assert main(["gc", *flags, "--deleted-retention-s", "60", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "n@1  sha256:aaaaaaaaaaaa" in text
    assert "would be freed: 3 versions, 3 contents" in text
    assert main(["gc", *flags, "--deleted-retention-s", "60", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (len(body["versions"]), body["contents"], body["dry_run"]) == (3, 3, False)
    assert main(["gc", "--adapters-store", str(root / "nowhere")]) == 2
