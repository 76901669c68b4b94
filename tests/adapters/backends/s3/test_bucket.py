"""One bucket behind a bad network: what is written once stays so, what is read is what was written,
and nobody waits for ever."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.client import S3Endpoint, S3Pace, s3_client
from service.adapters.backends.s3.failures import Damaged
from service.errors import StoreFull, StoreUnavailable
from service.store_location import BucketLocation
from tests.fault_proxy import FaultProxy
from tests.s3_server import S3Server

IMPATIENT = S3Pace(connect_timeout_s=0.5, read_timeout_s=0.5, num_attempts=2)


@pytest.fixture
def far(proxy: FaultProxy, location: BucketLocation) -> Bucket:
    """The same bucket, by way of the proxy."""
    client = s3_client(S3Endpoint(f"http://127.0.0.1:{proxy.port}"), IMPATIENT)
    return Bucket(client, location, pause_s=0.05)


def test_what_is_put_is_got_and_listed_below_the_prefix(
    bucket: Bucket, s3: S3Server, location: BucketLocation
) -> None:
    assert bucket.get("a/1") is None
    for key in ("a/1", "a/3", "a/2", "b"):
        bucket.put(key, key.encode())
    assert bucket.get("a/2") == b"a/2"
    assert [(one.key, one.num_bytes) for one in bucket.listing("a/", after="a/1")] == [
        ("a/2", 3),
        ("a/3", 3),
    ]
    assert s3.keys(location.bucket)[0] == "some/prefix/a/1"
    for _ in range(2):
        bucket.delete("a/2")
    assert bucket.modified_at("a/2") is None
    assert bucket.modified_at("a/1") == next(bucket.listing("a/1")).modified_at


def test_a_listing_has_many_pages(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    paginate = bucket._client.get_paginator

    def small_pages(name: str):
        paginator = paginate(name)
        whole = paginator.paginate
        paginator.paginate = lambda **more: whole(**more, PaginationConfig={"PageSize": 2})
        return paginator

    monkeypatch.setattr(bucket._client, "get_paginator", small_pages)
    for number in range(7):
        bucket.put(f"k{number}", b"")
    assert [one.key for one in bucket.listing("k")] == [f"k{number}" for number in range(7)]


def test_an_own_write_whose_answer_is_lost_is_no_other_writer(far: Bucket, s3: S3Server) -> None:
    s3.requests.clear()
    s3.answers_to_lose = 1
    far.create("k", b"mine")
    assert far.get("k") == b"mine"
    assert [method for method, _ in s3.requests] == ["PUT", "PUT", "HEAD", "GET"]
    with pytest.raises(FileExistsError):
        far.create("k", b"mine")


def test_a_write_that_is_cut_off_on_its_way_is_repeated(far: Bucket, proxy: FaultProxy) -> None:
    for after_bytes in (0, 10):
        proxy.cut_answers(1, after_bytes)
        far.create(f"k{after_bytes}", b"mine")
        assert far.get(f"k{after_bytes}") == b"mine"


def test_a_write_that_nobody_answers_may_have_happened_and_is_not_repeated_as_ones_own(
    far: Bucket, s3: S3Server, bucket: Bucket
) -> None:
    s3.answers_to_lose = 2
    with pytest.raises(StoreUnavailable):
        far.create("k", b"first")
    assert bucket.get("k") == b"first"
    with pytest.raises(FileExistsError):
        bucket.create("k", b"second")


def test_half_an_answer_is_read_again(far: Bucket, proxy: FaultProxy, bucket: Bucket) -> None:
    data = os.urandom(200_000)
    bucket.put("k", data)
    proxy.cut_answers(1, after_bytes=2000)
    assert far.get("k") == data


def test_a_body_that_always_breaks_off_is_a_store_that_is_away(
    far: Bucket, proxy: FaultProxy, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("k", os.urandom(200_000))
    proxy.cut_answers(3, after_bytes=2000)
    with pytest.raises(StoreUnavailable):
        far.download("k", tmp_path / "target")


def silent(proxy: FaultProxy) -> None:
    proxy.silence()


def late(proxy: FaultProxy) -> None:
    proxy.delay(30)


def refusing(proxy: FaultProxy) -> None:
    proxy.refuse()


@pytest.mark.parametrize("trouble", [silent, late, refusing])
def test_nobody_waits_for_a_store_that_is_away(
    far: Bucket, proxy: FaultProxy, trouble: Callable[[FaultProxy], None]
) -> None:
    far.put("k", b"v")
    far._pause_s = 60
    trouble(proxy)
    for call in (lambda: far.get("k"), lambda: far.put("k", b""), lambda: list(far.listing(""))):
        with pytest.raises(StoreUnavailable) as refused:
            call()
        assert refused.value.retry_after > 0
        assert "127.0.0.1" not in str(refused.value)
    num_connections = proxy.num_connections
    with pytest.raises(StoreUnavailable):
        far.delete("k")
    assert proxy.num_connections == num_connections, "it is not even tried"
    proxy.heal()
    far._away_until = 0
    assert far.get("k") == b"v"


def test_a_server_that_comes_back_is_used_again(far: Bucket, s3: S3Server) -> None:
    far.put("k", b"v")
    s3.stop()
    try:
        with pytest.raises(StoreUnavailable):
            far.get("other")
    finally:
        s3.start()
    far._away_until = 0
    assert far.get("k") == b"v"


def test_large_files_go_in_parts_and_come_back_whole(
    bucket: Bucket, s3: S3Server, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20) * 17)
    s3.requests.clear()
    bucket.upload("large", source)
    assert [method for method, _ in s3.requests].count("PUT") == 2
    assert bucket.download("large", target)
    assert target.read_bytes() == source.read_bytes()
    assert not bucket.download("none", tmp_path / "none")


def test_what_is_not_what_was_written_is_damaged(
    bucket: Bucket, s3: S3Server, location: BucketLocation, tmp_path: Path
) -> None:
    bucket.put("k", b"v")
    key = {"Bucket": location.bucket, "Key": "some/prefix/k"}
    metadata = s3.client.head_object(**key)["Metadata"]
    s3.client.put_object(**key, Body=b"w", Metadata=metadata)
    with pytest.raises(Damaged):
        bucket.get("k")
    with pytest.raises(Damaged):
        bucket.download("k", tmp_path / "target")
    s3.client.put_object(**key, Body=b"w")
    assert bucket.get("k") == b"w", "another tool has written it"


class Failing:
    """A client whose writes end with these codes of S3, one after the other."""

    def __init__(self, *codes: str) -> None:
        self._codes: Iterator[str] = iter(codes)

    def put_object(self, **_: object) -> None:
        code = next(self._codes, "")
        if code:
            raise ClientError({"Error": {"Code": code}}, "PutObject")


def test_a_full_bucket_is_a_full_store(location: BucketLocation) -> None:
    with pytest.raises(StoreFull):
        Bucket(Failing("QuotaExceeded"), location).put("k", b"")


def test_who_meets_another_at_a_key_tries_again(location: BucketLocation) -> None:
    Bucket(Failing(*["ConditionalRequestConflict"] * 2), location).create("k", b"")
    with pytest.raises(StoreUnavailable):
        Bucket(Failing(*["ConditionalRequestConflict"] * 3), location).create("k", b"")


def test_what_is_denied_is_unavailable_and_not_absent(location: BucketLocation) -> None:
    with pytest.raises(StoreUnavailable):
        Bucket(Failing("AccessDenied"), location).create("k", b"")


def test_a_bucket_that_does_not_exist_has_no_absent_objects(s3: S3Server) -> None:
    with pytest.raises(StoreUnavailable):
        Bucket(s3.client, BucketLocation("no-such-bucket", "")).get("k")
