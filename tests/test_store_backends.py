"""Which store the settings name, and that commands make none where there is none."""

from pathlib import Path

import pytest

from service.adapters.backends.s3.bucket import Bucket
from service.errors import ConfigurationError
from service.settings import Settings, resolve_settings
from service.store_backends import check_there_is_a_store, store_backends
from service.store_location import BucketLocation
from tests.s3_server import CREDENTIALS, S3Server


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def settings_of(store: object, cache: Path, **more: object) -> Settings:
    given = {"base_model": "none", "adapters_store": str(store), "cache_dir": cache, **more}
    return resolve_settings(given)


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "store", tmp_path / "cache")
    with pytest.raises(ConfigurationError, match="no adapter store"):
        check_there_is_a_store(settings)
    backends = store_backends(settings)
    backends.hold.open(is_tidied=True)
    check_there_is_a_store(settings)
    assert (backends.is_shared, backends.shipped) == (False, tmp_path / "store")
    backends.hold.close()


def test_a_bucket_is_a_store(s3: S3Server, tmp_path: Path) -> None:
    location = BucketLocation(s3.new_bucket(), "a")
    settings = settings_of(location, tmp_path / "cache", s3_endpoint_url=s3.url)
    with pytest.raises(ConfigurationError, match=f"no adapter store in {location}"):
        check_there_is_a_store(settings)
    Bucket(s3.client, BucketLocation(location.bucket, "ab")).put("k", b"another store's")
    with pytest.raises(ConfigurationError, match="no adapter store"):
        check_there_is_a_store(settings)
    backends = store_backends(settings)
    backends.hold.open(is_tidied=True)
    backends.logs.append("journal/n", 0, {"n": 1})
    backends.hold.close()
    check_there_is_a_store(settings)
    assert (backends.is_shared, backends.shipped) == (True, None)
    assert s3.keys(location.bucket, "a/") == ["a/journal/n/0000000000.json"]


def test_a_bucket_that_cannot_be_reached_is_no_empty_store(s3: S3Server, tmp_path: Path) -> None:
    settings = settings_of("s3://no-such-bucket/a", tmp_path, s3_endpoint_url=s3.url)
    with pytest.raises(ConfigurationError, match="NoSuchBucket"):
        check_there_is_a_store(settings)
