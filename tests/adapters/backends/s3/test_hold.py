"""Who may work on a store in a bucket: whoever is not kept out by one that lives, on a server that
keeps what was created."""

import json
from pathlib import Path

import pytest

from service.adapters.backends.s3.bucket_store import bucket_backends
from service.adapters.backends.s3.client import S3Endpoint, S3Pace, s3_client
from service.errors import ConfigurationError
from service.store_location import BucketLocation
from tests.adapters.places import PACE, BucketPlace
from tests.s3_server import S3Server
from tests.server import free_port


@pytest.fixture
def place(s3: S3Server, tmp_path: Path) -> BucketPlace:
    return BucketPlace(s3, tmp_path)


def keys(place: BucketPlace) -> list[str]:
    return place.s3.keys(place.location.bucket)


def test_a_hold_is_seen_while_it_lasts_and_leaves_nothing(place: BucketPlace) -> None:
    backends = place.backends("x")
    for _ in range(2):
        backends.hold.open(is_tidied=True)
        assert keys(place) == ["a/store/holds/x.json"]
        assert backends.work.is_dir()
        backends.hold.close()
        assert keys(place) == []
        assert not backends.work.exists()


def test_members_come_beside_each_other_and_after_themselves(place: BucketPlace) -> None:
    holds = [place.backends(name).hold for name in "xyx"]
    for hold in holds:
        hold.open(is_tidied=True)
    for hold in holds:
        hold.close()


@pytest.mark.parametrize("name", [None, "y"], ids=["alone", "member"])
def test_one_that_is_alone_keeps_out_others_while_it_lives(
    place: BucketPlace, name: str | None
) -> None:
    alone = place.backends()
    alone.hold.open(is_tidied=True)
    newcomer = bucket_backends(
        place.s3.client,
        place.location,
        place.root / "new",
        "new",
        is_alone=name is None,
        pace=PACE,
    )
    with pytest.raises(ConfigurationError, match="used by another process"):
        newcomer.hold.open(is_tidied=True)
    assert [key for key in keys(place) if key.endswith("new.json")] == []
    alone.hold.close()
    newcomer.hold.open(is_tidied=True)
    newcomer.hold.close()


def test_the_dead_keep_nobody_out(place: BucketPlace) -> None:
    place.s3.client.put_object(
        Bucket=place.location.bucket,
        Key="a/store/holds/dead.json",
        Body=json.dumps({"is_alone": True}).encode(),
    )
    hold = place.backends("x").hold
    hold.open(is_tidied=True)
    hold.close()


def test_a_server_that_writes_over_what_is_there_is_refused(tmp_path: Path) -> None:
    with S3Server(honours_conditions=False) as server:
        place = BucketPlace(server, tmp_path)
        with pytest.raises(ConfigurationError, match="If-None-Match"):
            place.backends("x").hold.open(is_tidied=True)
        assert keys(place) == []


def test_a_store_that_cannot_be_used_is_told_with_the_reason(s3: S3Server, tmp_path: Path) -> None:
    impatient = S3Pace(connect_timeout_s=0.2, read_timeout_s=0.2, num_attempts=1)
    nowhere = s3_client(S3Endpoint(f"http://127.0.0.1:{free_port()}"), impatient)
    there = s3_client(S3Endpoint(s3.url), impatient)
    location = BucketLocation("no-such-bucket", "x")
    for client, reason in ((nowhere, "does not answer"), (there, "NoSuchBucket")):
        backends = bucket_backends(client, location, tmp_path, "x", is_alone=True)
        with pytest.raises(ConfigurationError, match=rf"s3://no-such-bucket/x: .*{reason}"):
            backends.hold.open(is_tidied=True)
