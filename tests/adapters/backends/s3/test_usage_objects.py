"""Usage in a bucket that is away for a while: nothing is counted twice, and nothing is lost."""

from datetime import date, timedelta

import pytest

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.client import S3Endpoint, S3Pace, s3_client
from service.adapters.backends.s3.usage_objects import UsageObjects
from service.adapters.backends.usage import Usage, UsageKey
from service.errors import ConfigurationError, StoreUnavailable
from service.store_location import BucketLocation
from tests.fault_proxy import FaultProxy
from tests.s3_server import S3Server

DAY = date(2026, 3, 5)
KEY = UsageKey("red", "red/roman", "3")
ONE = Usage(1, 0, 10, 4, 20, 1024)


def test_what_was_written_though_nobody_said_so_is_not_counted_twice(
    s3: S3Server, location: BucketLocation, bucket: Bucket
) -> None:
    client = s3_client(S3Endpoint(s3.url), S3Pace(num_attempts=1))
    usage = UsageObjects(Bucket(client, location, pause_s=0), "x")
    usage.add(DAY, {KEY: ONE})
    s3.answers_to_lose = 1
    with pytest.raises(StoreUnavailable):
        usage.add(DAY, {KEY: ONE})
    assert UsageObjects(bucket, "y").read(DAY) == {KEY: ONE + ONE}, "it has arrived"
    usage.add(DAY, {KEY: ONE})
    assert usage.read(DAY) == {KEY: ONE + ONE}


def test_nor_if_it_was_the_first_of_its_day_and_the_next_day_has_begun(
    s3: S3Server, location: BucketLocation, bucket: Bucket
) -> None:
    client = s3_client(S3Endpoint(s3.url), S3Pace(num_attempts=1))
    usage = UsageObjects(Bucket(client, location, pause_s=0), "x")
    s3.answers_to_lose = 1
    with pytest.raises(StoreUnavailable):
        usage.add(DAY, {KEY: ONE})
    assert UsageObjects(bucket, "y").read(DAY) == {KEY: ONE}, "it has arrived"
    usage.add(DAY + timedelta(days=1), {KEY: ONE})
    usage.add(DAY, {KEY: ONE})
    assert usage.read(DAY) == {KEY: ONE}


def test_days_of_long_ago_are_read_anew(bucket: Bucket) -> None:
    usage = UsageObjects(bucket, "x")
    for number in (0, 1, 2, 3, 4, 0):
        usage.add(DAY + timedelta(days=number), {KEY: ONE})
    assert usage.read(DAY) == {KEY: ONE + ONE}


@pytest.mark.parametrize("data", [b"", b"[]", b'{"rows": [["red"]]}'])
def test_damage_is_named(bucket: Bucket, data: bytes) -> None:
    bucket.put(f"usage/{DAY}/x.json", data)
    with pytest.raises(ConfigurationError, match="usage of 2026-03-05"):
        UsageObjects(bucket, "x").read(DAY)


def test_a_store_that_is_away_has_no_empty_days(
    proxy: FaultProxy, location: BucketLocation
) -> None:
    proxy.refuse()
    client = s3_client(S3Endpoint(f"http://127.0.0.1:{proxy.port}"), S3Pace(num_attempts=1))
    with pytest.raises(StoreUnavailable):
        UsageObjects(Bucket(client, location), "x").read(DAY)
