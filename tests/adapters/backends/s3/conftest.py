"""Who makes a client here is let in; each test has a bucket of its own."""

from collections.abc import Iterator

import pytest

from service.adapters.backends.s3.bucket import Bucket
from service.store_location import BucketLocation
from tests.fault_proxy import FaultProxy
from tests.s3_server import CREDENTIALS, S3Server


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def location(s3: S3Server) -> BucketLocation:
    return BucketLocation(s3.new_bucket(), "some/prefix")


@pytest.fixture
def bucket(s3: S3Server, location: BucketLocation) -> Bucket:
    return Bucket(s3.client, location)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.port) as proxy:
        yield proxy
