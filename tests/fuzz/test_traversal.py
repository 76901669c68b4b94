"""Names that want to be paths: in addresses, bodies, file names and archives, on every route.

Nothing outside the store is read, written or told of; every answer is a 4xx of ours.
"""

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.adapters.files import CONFIG, VERSION_FILES, WEIGHTS
from tests.fuzz.app import EXAMPLE, FuzzedApp
from tests.fuzz.test_openapi import DOCUMENT

SECRET = "the canary's secret"
HOSTILE = (
    "..", ".", "../canary", "../../canary", "..\\canary", "....//canary", "/etc/passwd",
    "//etc/passwd", "C:\\canary", "\\\\host\\share", "file:///etc/passwd", "canary\x00.json",
    "\x00", "a\nb", "a\r\nX-Evil: 1", "\u2025/canary", "\uff0e\uff0e\uff0fcanary", "\u202ecanary",
    "a\u0300", "%2e%2e%2fcanary", "..%2fcanary", "..%5ccanary", "%00", "~root", "$HOME", "`id`",
    ".repertoire", "-rf", " ", "a ", "a/", "x" * 129, "x" * 7000, f"{EXAMPLE}/../canary",
    f"{EXAMPLE}@../canary", f"{EXAMPLE}@sha256:../../", f"tiny:{EXAMPLE}/../canary", "tiny:..",
    "NUL", "con", "a.", ".hidden", "café", "%252e%252e%252f",
)  # fmt: skip
HARMLESS = {"NUL", "con", "a."}
"""Names as any other, where files have their names."""
NO_NAMES = [name for name in HOSTILE if name not in HARMLESS]


@pytest.fixture
def fuzzed(tmp_path: Path) -> FuzzedApp:
    for place in (tmp_path, tmp_path / "store"):
        place.mkdir(exist_ok=True)
        (place / "canary").write_text(SECRET)
        (place / "canary.json").write_text(SECRET)
    return FuzzedApp(tmp_path)


@pytest.fixture
def client(fuzzed: FuzzedApp, tmp_path: Path) -> Iterator[TestClient]:
    with fuzzed.client() as client:
        before = around(tmp_path)
        yield client
        assert around(tmp_path) == before
        store = {path.name for path in (tmp_path / "store").iterdir()}
        assert store == {".repertoire", "canary", "canary.json"}


def around(root: Path) -> dict[str, str]:
    """Everything but what the server keeps for itself."""
    private = root / "store" / ".repertoire"
    return {
        str(path): path.read_text(errors="replace") if path.is_file() else ""
        for path in root.rglob("*")
        if private not in (path, *path.parents)
    }


def encoded(name: str, everything: bool) -> str:
    """In an address; with `everything`, slashes, dots and letters too."""
    raw = name.encode()
    plain = (
        b"" if everything else b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    )
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in raw)


def check(response: Any, *allowed: int) -> None:
    assert 400 <= response.status_code < 500 or response.status_code in allowed, response.text
    assert SECRET not in response.text
    assert "root:" not in response.text
    assert "x-evil" not in response.headers
    if response.status_code >= 400:
        assert response.json()["error"]["message"]


PATHS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if "{" in path
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_in_addresses(client: TestClient, method: str, path: str) -> None:
    for name in HOSTILE:
        for everything in (True, False):
            address = "".join(
                encoded(name, everything) if part.startswith("{") else part
                for part in re.split(r"(\{[^}]+\})", path)
            )
            response = client.request(method, address, json={}, follow_redirects=False)
            # A name that ends the path early leads to another route, which may well answer.
            check(response, 200, 307)


def test_as_names_to_publish_under(client: TestClient) -> None:
    files = [("files", (file, b"{}")) for file in VERSION_FILES]
    for name in NO_NAMES:
        check(client.post("/v1/adapters", data={"name": name}, files=files))


def test_as_models(client: TestClient) -> None:
    for name in HOSTILE:
        for fields in ({"model": name}, {"model": "tiny", "adapters": [{"name": name}]}):
            check(client.post("/v1/completions", json={"prompt": "x", **fields}))
            chat = {"messages": [{"role": "user", "content": "x"}], **fields}
            check(client.post("/v1/chat/completions", json=chat))


def test_as_aliases(client: TestClient) -> None:
    for name in NO_NAMES:
        check(client.patch(f"/v1/adapters/{EXAMPLE}", json={"aliases": {name: 1}}))


def test_in_headers_and_queries(client: TestClient) -> None:
    body = {"model": EXAMPLE, "prompt": "x", "max_tokens": 2}
    for name in HOSTILE:
        check(client.post("/v1/completions", json={**body, "user": name[:1024]}), 200)
        for header in ("x-sticky-key", "x-request-id", "if-match"):
            value = re.sub(r"[\x00-\x1f]", "", name).encode()
            check(client.post("/v1/completions", json=body, headers={header: value}), 200)
        check(client.get("/v1/adapters", params={"after": name}), 200)


def form(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """By hand, since clients escape what is to be tried here."""
    parts = [b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nfresh\r\n']
    for name, data in files:
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join([*parts, b"--b--\r\n"]), {"content-type": "multipart/form-data; boundary=b"}


RIGHT = ((CONFIG, b"{}"), (WEIGHTS, b"x"))


def test_as_file_names(client: TestClient) -> None:
    """What is no plain name is refused; what is one is stored nowhere, because nothing reads it."""
    for name in NO_NAMES:
        body, headers = form(*RIGHT, (name, b"evil"))
        check(client.post("/v1/adapters", content=body, headers=headers), 200, 201)


@pytest.mark.parametrize("kind", ["zip", "tar", "link", "hardlink"])
def test_as_archive_members(client: TestClient, kind: str) -> None:
    for name in NO_NAMES:
        files = {"archive": ("a", pack(name, kind))}
        response = client.post("/v1/adapters", data={"name": "fresh"}, files=files)
        check(response, *([] if "link" in kind else [200, 201]))


def pack(name: str, kind: str) -> bytes:
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for right, data in RIGHT:
                archive.writestr(right, data)
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"evil")
        return packed.getvalue()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo(name.replace("\x00", "_"))
        if kind == "tar":
            info.size = 4
        else:
            # A later member of this name would be written where the link points to.
            info.name, info.linkname = CONFIG, name.replace("\x00", "_")
            info.type = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE
        tar.addfile(info, io.BytesIO(b"evil"))
        for right, data in RIGHT:
            info = tarfile.TarInfo(right)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()
