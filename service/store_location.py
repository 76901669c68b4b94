"""Where an adapter store lies: a folder, or a prefix in a bucket."""

import re
from dataclasses import dataclass
from pathlib import Path

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")


@dataclass(frozen=True, slots=True)
class FolderLocation:
    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class BucketLocation:
    bucket: str
    prefix: str
    """Without slashes around it; may be empty."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


StoreLocation = FolderLocation | BucketLocation


def parse_location(text: str) -> StoreLocation:
    """Raises ValueError with a sentence."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        # Child processes work in folders of their own.
        return FolderLocation(Path(text).expanduser().absolute())
    if scheme[0].lower() != "s3://":
        raise ValueError("a store is a folder or s3://bucket/prefix")
    bucket, _, prefix = text[len(scheme[0]) :].partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("s3:// must be followed by the name of a bucket")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError("the prefix may have letters, digits and . _ = - between slashes")
    return BucketLocation(bucket, prefix)
