"""What makes logs logs, whatever they lie on: order without a lock, all of a record or nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.backends.records import RecordLogs
from service.adapters.backends.store_identity import store_identity
from service.errors import ConfigurationError
from tests.adapters.places import BucketPlace, FolderPlace, Place


@pytest.fixture
def pair(place: Place) -> Iterator[tuple[RecordLogs, RecordLogs]]:
    """Of two processes."""
    all_backends = [place.backends(name) for name in "xy"]
    for backends in all_backends:
        backends.hold.open(is_tidied=True)
    yield tuple(backends.logs for backends in all_backends)
    for backends in all_backends:
        backends.hold.close()


@pytest.fixture
def logs(pair: tuple[RecordLogs, RecordLogs]) -> RecordLogs:
    return pair[0]


def test_what_was_appended_is_read_in_its_order(pair: tuple[RecordLogs, RecordLogs]) -> None:
    logs, again = pair
    for number in range(12):
        logs.append("keys/a", number, {"n": number})
    logs.append("journal/@team/x", 0, {"n": "ä"})
    assert [record["n"] for record in again.read("keys/a")] == list(range(12))
    assert again.read("keys/a", 11) == [{"n": 11}]
    assert again.read("keys/a", 12) == again.read("keys/b") == again.read("keys") == []
    assert (again.names("keys"), again.names("journal")) == (["a"], ["@team/x"])
    assert (again.lengths("keys"), again.lengths("journal")) == ({"a": 12}, {"@team/x": 1})
    assert again.names("tenants") == again.names("key") == []


def test_the_first_writer_of_a_number_has_it(pair: tuple[RecordLogs, RecordLogs]) -> None:
    one, other = pair
    one.append("keys/a", 0, {"n": 0})
    for logs in (one, other):
        with pytest.raises(FileExistsError):
            logs.append("keys/a", 0, {"n": 0})
    assert other.read("keys/a") == [{"n": 0}]


def test_of_many_writers_each_number_has_one(pair: tuple[RecordLogs, RecordLogs]) -> None:
    won: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        for number in range(6):
            try:
                pair[writer % 2].append("keys/a", number, {"writer": writer})
            except FileExistsError:
                continue
            won.append((number, writer))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, _ in sorted(won)] == list(range(6))
    assert [record["writer"] for record in pair[0].read("keys/a")] == [w for _, w in sorted(won)]


def test_a_store_is_the_same_to_whoever_asks(pair: tuple[RecordLogs, RecordLogs]) -> None:
    assert store_identity(pair[0]) == store_identity(pair[1]) == store_identity(pair[0])


def test_a_gap_is_damage(logs: RecordLogs, place: Place) -> None:
    for number in range(3):
        logs.append("keys/a", number, {})
    spoil(place, "keys/a/0000000001.json", None)
    with pytest.raises(ConfigurationError, match="gap"):
        logs.read("keys/a")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7"])
def test_what_is_no_record_is_damage(logs: RecordLogs, place: Place, data: bytes) -> None:
    logs.append("keys/a", 0, {})
    spoil(place, "keys/a/0000000000.json", data)
    with pytest.raises(ConfigurationError, match="damaged"):
        logs.read("keys/a")


def spoil(place: Place, key: str, data: bytes | None) -> None:
    """None = it is gone."""
    if isinstance(place, FolderPlace):
        path: Path = place.root / ".repertoire" / key
        path.unlink() if data is None else path.write_bytes(data)
        return
    assert isinstance(place, BucketPlace)
    target = {"Bucket": place.location.bucket, "Key": f"{place.location.prefix}/{key}"}
    if data is None:
        place.s3.client.delete_object(**target)
    else:
        place.s3.client.put_object(**target, Body=data)
