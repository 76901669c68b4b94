"""What a client may write as `source`. Pure: whether it is allowed is another question."""

import re
from dataclasses import dataclass

import httpx

from service.errors import InvalidRequest

MAX_LENGTH = 2048
ARCHIVES = (".zip", ".tar.gz", ".tgz")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PART = r"[A-Za-z0-9_][\w.-]*"
_HUB = re.compile(rf"({_PART}/{_PART})((?:/{_PART})*)", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]*", re.ASCII)
_BUCKET = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
_FORMS = "hf://org/repo@revision, s3://bucket/prefix, https://host/path, or a path of the server"


@dataclass(frozen=True, slots=True)
class HubAddress:
    repository: str
    folder: str
    """Within it; empty = its root."""
    revision: str | None

    def __str__(self) -> str:
        path = f"{self.repository}/{self.folder}".rstrip("/")
        return f"hf://{path}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    bucket: str
    key: str
    """A prefix, without a slash at its end, or the key of an archive."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class WebAddress:
    url: httpx.URL

    def __str__(self) -> str:
        """The query may be a signature."""
        return str(self.url.copy_with(query=None))


@dataclass(frozen=True, slots=True)
class PathAddress:
    path: str

    def __str__(self) -> str:
        return self.path


Address = HubAddress | BucketAddress | WebAddress | PathAddress


def parse_address(text: str) -> Address:
    """Raises `InvalidRequest`."""
    if not text or len(text) > MAX_LENGTH or not text.isprintable():
        raise _wrong(f"a source has 1 to {MAX_LENGTH} printable characters")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return PathAddress(text)
    rest = text[scheme.end() :]
    match scheme[1].lower():
        case "hf":
            return _hub(rest)
        case "s3":
            return _bucket(rest)
        case "https":
            return _web(text)
        case "http":
            raise _wrong("http:// is not fetched from, since anybody on the way could change it")
        case _:
            raise _wrong(f"a source is {_FORMS}")


def _hub(text: str) -> HubAddress:
    path, at, revision = text.partition("@")
    found = _HUB.fullmatch(path.rstrip("/"))
    is_revision = _REVISION.fullmatch(revision) and ".." not in revision
    if found is None or ".." in path or (at and not is_revision):
        raise _wrong("hf:// is followed by org/repo, and maybe /folder and @revision")
    return HubAddress(found[1], found[2].strip("/"), revision or None)


def _bucket(text: str) -> BucketAddress:
    found = _BUCKET.fullmatch(text.rstrip("/"))
    # Not every server of S3 takes a key for what it is: some make a path of it.
    if found is None or {"", ".", ".."} & set(found[2].split("/")):
        raise _wrong("s3:// is followed by bucket/prefix")
    return BucketAddress(found[1], found[2])


def _web(text: str) -> WebAddress:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise _wrong("it is no URL") from None
    if url.userinfo:
        raise _wrong("a URL holds no name and no password here; the operator has credentials")
    is_port = url.port is None or 0 < url.port < 1 << 16
    if not (url.host and is_port) or url.fragment or url.path in ("", "/"):
        raise _wrong("https:// is followed by host/path")
    return WebAddress(url)


def _wrong(message: str) -> InvalidRequest:
    """Without the text, which may hold what is nobody's business."""
    return InvalidRequest(f"{message[0].upper()}{message[1:]}.", "source")
