"""What may be written as a source, and what is shown of it."""

import pytest

from service.errors import InvalidRequest
from service.sources.address import (
    BucketAddress,
    HubAddress,
    PathAddress,
    WebAddress,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://org/repo", HubAddress("org/repo", "", None)),
        ("hf://org/repo@v1.0", HubAddress("org/repo", "", "v1.0")),
        ("HF://org/re.po/sub/folder@refs/pr/1", HubAddress("org/re.po", "sub/folder", "refs/pr/1")),
        ("s3://bucket/a/b/", BucketAddress("bucket", "a/b")),
        ("s3://my.bucket/a.tar.gz", BucketAddress("my.bucket", "a.tar.gz")),
        ("/srv/adapters/a", PathAddress("/srv/adapters/a")),
        ("a", PathAddress("a")),
    ],
)
def test_every_form(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "x" * 2049, "a\nb", "a\0b",
        "http://host/a.zip", "ftp://host/a", "file:///etc/passwd", "gopher://x/", "https://",
        "https://host", "https://host/", "https://user:hunter2@host/a", "https://hunter2@host/a",
        "https://host/a#b", "https://[::1/a", "https://host:99999/a",
        "hf://repo", "hf://org/../x", "hf://org/repo@", "hf://org/repo@a..b", "hf://org/repo@-x",
        "hf://org/repo?x=1", "hf://org/repo/..", "hf://-org/repo",
        "s3://bucket", "s3://bucket/", "s3://B/x", "s3://a/b", "s3://bucket/a/../b",
        "s3://bucket/./a", "s3://bucket//a", "s3://bucket/a//b",
    ],
)  # fmt: skip
def test_everything_else_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_address(text)
    assert caught.value.param == "source"
    assert "hunter2" not in str(caught.value)


def test_a_signature_is_not_shown() -> None:
    address = parse_address("https://Host.example:8443/a/b.zip?X-Signature=secret")
    assert isinstance(address, WebAddress)
    assert str(address) == "https://host.example:8443/a/b.zip"
    assert "secret" in str(address.url)
