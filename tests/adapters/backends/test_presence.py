"""A store whose folder has gone away is no store that has lost everything, and no bug of ours."""

import errno
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.backends.usage import Usage, UsageKey
from service.adapters.limits import AdapterLimits
from service.adapters.presence import store_in
from service.adapters.store import AdapterStore
from service.errors import StoreUnavailable
from tests.adapters.test_store import outcome

DIGEST, DAY = "a" * 64, date(2026, 3, 5)
ROWS = {UsageKey("red", "red/roman", "3"): Usage(1, 0, 10, 4, 20, 1024)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backends(root: Path) -> Iterator[StoreBackends]:
    """Of a store that has something of everything."""
    root.mkdir()
    backends = folder_backends(root, "x")
    store = AdapterStore(backends, AdapterLimits())
    store.open()
    store.publish("n", outcome(store, "a"), 5)
    backends.usage.add(DAY, ROWS)
    yield backends
    store.close()


def unmount(root: Path) -> None:
    """An empty mount point is left."""
    root.rename(root.parent / "away")
    root.mkdir()


def mount(root: Path) -> None:
    root.rmdir()
    (root.parent / "away").rename(root)


@pytest.mark.parametrize(
    "call",
    [
        lambda one, _: one.logs.names("journal"),
        lambda one, _: one.logs.lengths("journal"),
        lambda one, _: one.logs.read("journal/n"),
        lambda one, _: one.logs.append("journal/n", 1, {}),
        lambda one, _: one.logs.append("keys/7f3a", 0, {}),
        lambda one, _: one.originals.listing(),
        lambda one, _: one.originals.has(DIGEST),
        lambda one, _: one.originals.manifest(DIGEST),
        lambda one, _: one.originals.folder(DIGEST),
        lambda one, _: one.originals.remove(DIGEST),
        lambda one, made: one.originals.add(made),
        lambda one, _: one.usage.read(DAY),
        lambda one, _: one.usage.add(DAY, ROWS),
        lambda one, _: AdapterStore(one, AdapterLimits()).check_disk(0),
    ],
)
def test_everything_is_unavailable_nothing_is_made_and_afterwards_all_is_there(
    backends: StoreBackends, root: Path, call: Callable
) -> None:
    made = outcome(AdapterStore(backends, AdapterLimits()), "b")
    unmount(root)
    with pytest.raises(StoreUnavailable) as refused:
        call(backends, made)
    assert refused.value.retry_after > 0
    assert list(root.iterdir()) == []
    mount(root)
    assert backends.logs.lengths("journal") == {"n": 1}
    assert backends.originals.has(DIGEST)
    assert backends.usage.read(DAY) == ROWS


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_what_a_file_system_says_that_does_not_answer_is_away(tmp_path: Path, code: int) -> None:
    with pytest.raises(StoreUnavailable), store_in(tmp_path):
        raise OSError(code, os.strerror(code))


def test_what_is_missing_in_a_store_that_is_there_stays_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), store_in(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(FileExistsError), store_in(tmp_path):
        tmp_path.mkdir()
