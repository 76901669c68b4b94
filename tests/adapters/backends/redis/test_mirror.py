"""The mirror holds what was appended, at its number, or nothing; never another store's."""

from pathlib import Path

import pytest

from service.adapters.backends.record_files import RecordFiles
from service.adapters.backends.redis import mirror as mirror_module
from service.adapters.backends.redis.mirror import RedisMirror
from service.adapters.backends.store_identity import store_identity
from service.errors import StoreUnavailable
from tests.adapters.backends.conftest import Connect
from tests.fault_proxy import FaultProxy
from tests.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

A, B, C = {"n": 0, "text": "ä"}, {"n": 1, "parts": ["x", None]}, {"n": 2}


@pytest.fixture
def mirror(connect: Connect) -> RedisMirror:
    return RedisMirror(connect(), "mine")


def test_what_is_appended_in_order_is_read(mirror: RedisMirror) -> None:
    mirror.append("journal/red/roman", 0, A)
    mirror.append("journal/red/roman", 1, B)
    mirror.append("keys/7f", 0, C)
    assert mirror.read_all("journal") == {"red/roman": [A, B]}
    assert mirror.read_all("keys") == {"7f": [C]}
    assert mirror.read_all("key") == {}


def test_a_gap_is_never_mirrored(mirror: RedisMirror) -> None:
    mirror.append("journal/roman", 1, B)
    assert mirror.read_all("journal") == {}
    mirror.append("journal/roman", 0, A)
    mirror.append("journal/roman", 2, C)
    assert mirror.read_all("journal") == {"roman": [A]}


def test_the_same_record_twice_is_there_once(mirror: RedisMirror) -> None:
    for _ in range(2):
        mirror.append("journal/roman", 0, A)
    assert mirror.read_all("journal") == {"roman": [A]}


def test_whatever_contradicts_a_record_goes(mirror: RedisMirror) -> None:
    mirror.put("journal/roman", [C, B])
    mirror.append("journal/roman", 0, A)
    assert mirror.read_all("journal") == {}


def test_a_put_replaces_and_a_drop_leaves_nothing(mirror: RedisMirror, server: RedisServer) -> None:
    mirror.put("journal/roman", [A, B, C])
    mirror.put("journal/roman", [A])
    assert mirror.read_all("journal") == {"roman": [A]}
    mirror.drop("journal/roman")
    assert mirror.read_all("journal") == {}
    assert not list(server.client.scan_iter(f"{mirror._link.key('mirror')}:*"))


def test_many_logs_are_read_in_batches(
    mirror: RedisMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_BATCH", 3)
    for i in range(10):
        mirror.put(f"journal/a{i}", [A] * (i + 1))
    assert {log: len(found) for log, found in mirror.read_all("journal").items()} == {
        f"a{i}": i + 1 for i in range(10)
    }


def test_another_store_has_another_mirror(connect: Connect, tmp_path: Path) -> None:
    stores = []
    for name in ("one", "two"):
        (tmp_path / name / "tmp").mkdir(parents=True)
        stores.append(RecordFiles(tmp_path / name, tmp_path / name / "tmp"))
    first, second, again = (store_identity(store) for store in (stores[0], stores[1], stores[0]))
    assert first == again != second
    link = connect()
    RedisMirror(link, first).append("journal/roman", 0, A)
    assert RedisMirror(link, second).read_all("journal") == {}
    assert RedisMirror(link, again).read_all("journal") == {"roman": [A]}


def test_an_answer_that_is_cut_leaves_one_record(mirror: RedisMirror, proxy: FaultProxy) -> None:
    mirror.append("journal/roman", 0, A)
    proxy.cut_answers(after_bytes=1)
    mirror.append("journal/roman", 1, B)
    mirror.append("journal/roman", 2, C)
    assert mirror.read_all("journal") == {"roman": [A, B, C]}


def test_away_is_unavailable(mirror: RedisMirror, proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(StoreUnavailable):
        mirror.append("journal/roman", 0, A)
    with pytest.raises(StoreUnavailable):
        mirror.read_all("journal")
