"""s3:// sources against moto, and through a proxy that cuts connections."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.adapters.backends.s3.client import S3Endpoint, S3Pace, s3_client
from service.errors import SourceDenied, SourceFailed, SourceNotFound, SourceRefused, UploadTooLarge
from service.sources.address import parse_address
from service.sources.bucket import BucketSource
from tests.fault_proxy import FaultProxy
from tests.s3_server import CREDENTIALS, S3Server
from tests.sources.conftest import MemoryTarget
from tests.sources.https_server import QUICK

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": os.urandom(3 << 20)}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(limit=8 << 20)


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """With an adapter, what lies beside and below it, and an archive."""
    name = s3.new_bucket()
    others = {"README.md": b"#", "old/adapter_config.json": b"no"}
    for key, body in (FILES | others).items():
        s3.client.put_object(Bucket=name, Key=f"team/dates/{key}", Body=body)
    s3.client.put_object(Bucket=name, Key="team/dates-2/adapter_config.json", Body=b"no")
    s3.client.put_object(Bucket=name, Key="team/a.tar.gz", Body=b"packed")
    return name


def fetch(source: str, s3: Any, target: MemoryTarget, *buckets: str) -> str:
    address: Any = parse_address(source)
    return asyncio.run(BucketSource(address, s3, buckets, QUICK).fetch(target))


def test_a_prefix_is_a_folder(s3: S3Server, bucket: str, target: MemoryTarget) -> None:
    revision = fetch(f"s3://{bucket}/team/dates/", s3.client, target, bucket)
    assert target.files == FILES
    assert target.announced == sum(map(len, FILES.values()))
    assert fetch(f"s3://{bucket}/team/dates", s3.client, MemoryTarget(8 << 20), bucket) == revision
    s3.client.put_object(Bucket=bucket, Key="team/dates/adapter_config.json", Body=b"{ }")
    assert fetch(f"s3://{bucket}/team/dates", s3.client, MemoryTarget(8 << 20), bucket) != revision


def test_a_key_is_an_archive(s3: S3Server, bucket: str, target: MemoryTarget) -> None:
    revision = fetch(f"s3://{bucket}/team/a.tar.gz", s3.client, target, f"{bucket}/team")
    assert target.files == {None: b"packed"}
    assert revision.startswith('"')


@pytest.mark.parametrize(
    ("listed", "is_allowed"),
    [("{}", True), ("{}/team", True), ("{}/team/dates", True), ("{}/", True),
     ("{}/team/date", False), ("{}/team/dates/deeper", False), ("{}x", False), ("", False)],
)  # fmt: skip
def test_buckets_and_prefixes_are_allowed(
    listed: str, is_allowed: bool, s3: S3Server, bucket: str, target: MemoryTarget
) -> None:
    source = f"s3://{bucket}/team/dates"
    buckets = (listed.format(bucket),) if listed else ()
    if is_allowed:
        fetch(source, s3.client, target, *buckets)
        return
    num_before = len(s3.requests)
    with pytest.raises(SourceRefused, match="--source-buckets"):
        fetch(source, s3.client, target, *buckets)
    assert len(s3.requests) == num_before


def test_what_is_not_there(s3: S3Server, bucket: str, target: MemoryTarget) -> None:
    for key in ("team", "nothing", "team/b.tar.gz", "team/dates/old"):
        with pytest.raises(SourceNotFound):
            fetch(f"s3://{bucket}/{key}", s3.client, target, bucket)
    with pytest.raises(SourceNotFound, match="NoSuchBucket"):
        fetch("s3://no-such-bucket/a", s3.client, target, "no-such-bucket")


def test_a_prefix_of_many_objects_is_not_read_in_part(
    s3: S3Server, bucket: str, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.sources.bucket._MAX_LISTED", len(FILES))
    s3.client.put_object(Bucket=bucket, Key="team/dates/zzz", Body=b"one more")
    with pytest.raises(SourceFailed, match="more than"):
        fetch(f"s3://{bucket}/team/dates", s3.client, target, bucket)


def test_what_is_too_large_is_not_read(s3: S3Server, bucket: str, target: MemoryTarget) -> None:
    target.limit = 3 << 20
    with pytest.raises(UploadTooLarge):
        fetch(f"s3://{bucket}/team/dates", s3.client, target, bucket)
    assert target.files == {}


def test_what_changes_meanwhile_is_not_pieced_together(
    s3: S3Server, bucket: str, target: MemoryTarget
) -> None:
    begin = target.begin

    async def change(file: str | None) -> None:
        await begin(file)
        s3.client.put_object(Bucket=bucket, Key=f"team/dates/{file}", Body=b"other")

    target.begin = change  # type: ignore[method-assign]
    with pytest.raises(SourceFailed, match="was changed"):
        fetch(f"s3://{bucket}/team/dates", s3.client, target, bucket)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.port) as proxy:
        yield proxy


def test_a_broken_connection_is_continued_where_it_broke(
    s3: S3Server, bucket: str, target: MemoryTarget, proxy: FaultProxy
) -> None:
    write, cuts = target.write, [1]

    async def write_and_cut(data: bytes) -> None:
        await write(data)
        if len(data) == 1 << 20 and cuts:
            cuts.pop()
            proxy.cut()

    target.write = write_and_cut  # type: ignore[method-assign]
    client = s3_client(S3Endpoint(f"http://127.0.0.1:{proxy.port}"), S3Pace(num_attempts=1))
    fetch(f"s3://{bucket}/team/dates", client, target, bucket)
    assert not cuts
    assert target.files == FILES
    assert target.num_rewinds == 0


class StallingBody:
    """Of one lock, like the sockets of urllib3: closing waits for the read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_read, self.go_on = threading.Event(), threading.Event()
        self.was_let_go_on = False

    def read(self, _: int) -> bytes:
        with self.lock:
            self.is_read.set()
            self.was_let_go_on = self.go_on.wait(10)
        return b""

    def close(self) -> None:
        with self.lock:
            pass


class StallingClient:
    def __init__(self, body: StallingBody) -> None:
        self.body = body

    def head_object(self, **_: str) -> dict[str, Any]:
        return {"ContentLength": 5, "ETag": '"a"'}

    def get_object(self, **_: str) -> dict[str, Any]:
        return {"Body": self.body}


def test_nobody_waits_for_a_read_that_nobody_wants_any_more(target: MemoryTarget) -> None:
    body = StallingBody()
    address: Any = parse_address("s3://bucket/a.zip")

    async def main() -> None:
        source = BucketSource(address, StallingClient(body), ("bucket",), QUICK)
        fetching = asyncio.create_task(source.fetch(target))
        await asyncio.to_thread(body.is_read.wait, 10)
        fetching.cancel()
        await asyncio.wait({fetching})
        body.go_on.set()

    asyncio.run(main())
    assert body.was_let_go_on, "the event loop stood still until the read was over"


def test_a_server_that_is_away(bucket: str, target: MemoryTarget, proxy: FaultProxy) -> None:
    proxy.refuse()
    client = s3_client(S3Endpoint(f"http://127.0.0.1:{proxy.port}"), S3Pace(num_attempts=1))
    with pytest.raises(SourceFailed, match="attempt 3"):
        fetch(f"s3://{bucket}/team/dates", client, target, bucket)


def test_without_credentials(
    s3: S3Server, bucket: str, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nothing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nothing")
    client = s3_client(S3Endpoint(s3.url))
    with pytest.raises(SourceDenied, match="credentials"):
        fetch(f"s3://{bucket}/team/dates", client, target, bucket)


def test_credentials_of_a_profile(
    s3: S3Server, bucket: str, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[reader]\naws_access_key_id = reader\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    client = s3_client(S3Endpoint(s3.url, profile="reader"))
    assert client._get_credentials().access_key == "reader"
    fetch(f"s3://{bucket}/team/dates", client, target, bucket)
