"""`rebuild`: Redis has what the store says, damage is told and nothing of it is made worse."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from service.__main__ import main
from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.rebuilding import rebuild
from service.adapters.backends.redis.address import parse_address
from service.adapters.backends.redis.link import RedisLink
from service.adapters.backends.redis.mirror import RedisMirror
from service.adapters.backends.store_identity import store_identity
from service.errors import StoreUnavailable
from tests.adapters.backends.memory_fleet import Exchange, MemoryAnnouncements, MemoryMirror
from tests.fakes import MemoryLogs
from tests.redis_server import RedisServer, needs_redis

RECORDS = [{"n": number} for number in range(3)]
LOGS = ("journal/n", "journal/@team-a/m", "keys/7f3a", "tenants/team-a")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), password="hidden-word") as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with logs of each kind; no replica runs."""
    root = tmp_path / "store"
    root.mkdir()
    backends = folder_backends(root, "x")
    backends.hold.open(is_tidied=False)
    store_identity(backends.logs)
    for log in LOGS:
        for number, record in enumerate(RECORDS):
            backends.logs.append(log, number, record)
    backends.hold.close()
    return root


@pytest.fixture
def mirror(root: Path, redis: RedisServer) -> Iterator[RedisMirror]:
    """What Redis has of the store."""
    link = RedisLink(parse_address(redis.url), "repertoire:", "observer")
    link.start()
    yield RedisMirror(link, store_identity(folder_backends(root, "observer").logs))
    link.stop()


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EventDict]]:
    """`main` would lead the log to a stream that ends with the test."""
    monkeypatch.setattr("service.telemetry.configure_logging", lambda *_: None)
    with capture_logs() as lines:
        yield lines


def run(root: Path, url: str, *more: str) -> int:
    return main(["rebuild", "--adapters-store", str(root), "--redis-url", url, *more])


def contents(root: Path) -> dict[str, bytes]:
    """Of every record of the store."""
    paths = sorted((root / ".repertoire").rglob("*.json"))
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@needs_redis
def test_redis_has_what_the_store_has_and_nothing_else(
    root: Path, redis: RedisServer, mirror: RedisMirror, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, redis.url) == 0
    assert mirror.read_all("journal") == {"n": RECORDS, "@team-a/m": RECORDS}
    assert mirror.read_all("keys") == {"7f3a": RECORDS}
    (root / ".repertoire/keys/7f3a").rename(root / "aside")
    capsys.readouterr()
    assert run(root, redis.url, "--json") == 0
    counts = json.loads(capsys.readouterr().out)["rebuilt"]
    assert [(one["folder"], one["num_logs"], one["num_records"]) for one in counts] == [
        ("tenants", 1, 3),
        ("keys", 0, 0),
        ("journal", 2, 6),
    ]
    assert [one["num_dropped"] for one in counts] == [0, 1, 0]
    assert mirror.read_all("keys") == {}


def half(record: Path) -> None:
    record.write_bytes(record.read_bytes()[:4])


def garbage(record: Path) -> None:
    record.write_bytes(b"\x00\xff\xfe")


def no_object(record: Path) -> None:
    record.write_text("[1]")


def missing(record: Path) -> None:
    record.unlink()


@needs_redis
@pytest.mark.parametrize(
    ("damage", "number"),
    [(half, 0), (half, 2), (garbage, 1), (no_object, 1), (missing, 0), (missing, 1)],
)
def test_a_damaged_log_is_told_and_kept_and_all_others_are_copied(
    root: Path,
    redis: RedisServer,
    mirror: RedisMirror,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    number: int,
) -> None:
    assert run(root, redis.url) == 0
    damage(root / f".repertoire/journal/n/{number:010d}.json")
    mirror.drop("keys/7f3a")
    before = contents(root)
    capsys.readouterr()
    assert run(root, redis.url) == 1
    said = capsys.readouterr().out
    assert "journal: 1 logs of 3 records" in said
    assert "journal/n is left as Redis has it: " in said
    assert ("has a gap" if damage is missing else f"{number:010d}.json") in said
    assert contents(root) == before
    assert mirror.read_all("keys") == {"7f3a": RECORDS}
    assert mirror.read_all("journal") == {"n": RECORDS, "@team-a/m": RECORDS}, "what is left of it"


@needs_redis
def test_without_redis_it_says_so_and_nothing_of_the_credentials(
    root: Path,
    redis: RedisServer,
    logged: list[EventDict],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(root)
    for port in (1, redis.port):
        url = f"redis://somebody:wrong-word@127.0.0.1:{port}/0"
        assert run(root, url) == 2
        said = capsys.readouterr().err
        assert f"Redis cannot be reached at redis://127.0.0.1:{port}/0." in said
        assert "redis_down" in str(logged)
        assert not {word for word in ("somebody", "wrong-word") if word in f"{said}{logged}"}
    assert contents(root) == before


def test_without_a_store_or_an_address_nothing_is_made(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "typo", "redis://127.0.0.1:1") == 2
    assert "There is no adapter store in" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
    assert main(["rebuild", "--adapters-store", str(root)]) == 2
    assert "--redis-url" in capsys.readouterr().err


def test_who_is_alone_on_the_store_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.adapters.backends.folder_store._LOCK_ATTEMPTS", 1)
    alone = folder_backends(root).hold
    alone.open(is_tidied=False)
    assert run(root, "redis://127.0.0.1:1") == 2
    alone.close()
    assert "used by another process" in capsys.readouterr().err


def test_when_the_mirror_goes_away_meanwhile_each_log_is_there_as_a_whole_or_not_at_all() -> None:
    exchange, truth = Exchange(), MemoryLogs()
    for log in LOGS:
        for number, record in enumerate(RECORDS):
            truth.append(log, number, record)

    class Leaving(MemoryMirror):
        num_puts = 0

        def put(self, log, records) -> None:
            if self.num_puts == 2:
                exchange.cut()
            self.num_puts += 1
            super().put(log, records)

    mirror, told = Leaving(exchange), MemoryAnnouncements(exchange)
    with pytest.raises(StoreUnavailable):
        list(rebuild(truth, mirror, told))
    exchange.heal()
    for folder in ("tenants", "keys", "journal"):
        assert all(records == RECORDS for records in mirror.read_all(folder).values())
    mirror.num_puts = 3
    assert sum(one.num_logs for one in rebuild(truth, mirror, told)) == len(LOGS)
