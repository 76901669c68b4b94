"""hf:// sources against a hub that answers like the real one: large files are on another host."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from service.errors import SourceDenied, SourceFailed, SourceNotFound, SourceRefused, UploadTooLarge
from service.sources.address import parse_address
from service.sources.hub import Hub, HubSource
from tests.sources.conftest import MemoryTarget
from tests.sources.https_server import QUICK, File, HttpsServer, Redirect

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG, WEIGHTS = b'{"peft_type": "LORA"}', bytes(range(256)) * 100
TOKEN = "hf_secret"


class HubOf:
    """One repository: what the hub's API says of it, and where its files are."""

    def __init__(self, server: HttpsServer) -> None:
        self.server = server
        self.files = {
            "adapter_config.json": CONFIG,
            "adapter_model.safetensors": WEIGHTS,
            "README.md": b"# Nothing",
            "training_args.bin": b"x" * 5000,
            "sub/folder/adapter_config.json": CONFIG[::-1],
            "sub/folder/adapter_model.safetensors": WEIGHTS[::-1],
        }
        self.info: dict[str, Any] = {}
        self.sha = COMMIT

    def open(self) -> None:
        siblings = []
        for name, body in self.files.items():
            lfs = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 1}
            is_large = name.endswith(".safetensors")
            more = {"lfs": lfs} if is_large else {}
            siblings.append({"rfilename": name, "size": len(body), "blobId": "0"} | more)
            at = f"/org/repo/resolve/{COMMIT}/{name}"
            self.server.paths[at] = File(body, etag=f'"{name}"')
            if is_large:
                self.server.paths[at] = Redirect(self.server.url(f"/cdn/{name}?sig=1", "cdn.test"))
                self.server.paths[f"/cdn/{name}"] = File(body, cut_after=1000)
        info = {"id": "org/repo", "sha": self.sha, "siblings": siblings} | self.info
        for revision in ("main", "v1", "refs%2Fpr%2F1"):
            self.server.paths[f"/api/models/org/repo/revision/{revision}"] = File(
                json.dumps(info).encode()
            )

    def fetch(self, text: str, target: MemoryTarget, **options: Any) -> str:
        async def main() -> str:
            address: Any = parse_address(text)
            reader = self.server.reader()
            given = {"repositories": ("org",), "hosts": (self.server.host("cdn.test"),)}
            hub = Hub(self.server.url("", "hub.test"), **given | options)
            try:
                return await HubSource(address, reader, hub, QUICK).fetch(target)
            finally:
                await reader.aclose()

        self.open()
        return asyncio.run(main())


@pytest.fixture
def hub(server: HttpsServer) -> HubOf:
    return HubOf(server)


def test_only_the_files_of_an_adapter_are_fetched_at_one_commit(
    hub: HubOf, target: MemoryTarget
) -> None:
    assert hub.fetch("hf://org/repo", target, token=TOKEN) == COMMIT
    assert target.files == {"adapter_config.json": CONFIG, "adapter_model.safetensors": WEIGHTS}
    assert target.announced == len(CONFIG) + len(WEIGHTS)
    seen = hub.server.seen
    assert seen[0].path == "/api/models/org/repo/revision/main?blobs=true"
    assert all(COMMIT in one.path for one in seen[1:] if one.host == "hub.test")
    sent = {(one.host, one.headers.get("authorization")) for one in seen}
    assert sent == {("hub.test", f"Bearer {TOKEN}"), ("cdn.test", None)}
    ranges = [one.headers.get("range") for one in seen if one.host == "cdn.test"]
    assert ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
def test_a_revision_is_asked_for(hub: HubOf, target: MemoryTarget, revision: str) -> None:
    assert hub.fetch(f"hf://org/repo@{revision}", target) == COMMIT


def test_a_folder_of_a_repository(hub: HubOf, target: MemoryTarget) -> None:
    hub.fetch("hf://org/repo/sub/folder@v1", target)
    assert target.files["adapter_model.safetensors"] == WEIGHTS[::-1]


def test_no_token_of_this_machine_is_sent(
    hub: HubOf, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fetch("hf://org/repo", target)
    assert all("authorization" not in one.headers for one in hub.server.seen)


def test_a_redirect_beyond_the_hubs_hosts(hub: HubOf, target: MemoryTarget) -> None:
    with pytest.raises(SourceRefused, match="--source-hub-hosts"):
        hub.fetch("hf://org/repo", target, hosts=())
    assert "cdn.test" not in {one.host for one in hub.server.seen}


@pytest.mark.parametrize(
    ("repositories", "is_allowed"),
    [((), False), (("other",), False), (("org/other",), False), (("or",), False),
     (("org",), True), (("org/repo",), True), (("*",), True)],
)  # fmt: skip
def test_repositories_are_allowed_by_name(
    hub: HubOf, target: MemoryTarget, repositories: tuple[str, ...], is_allowed: bool
) -> None:
    if is_allowed:
        hub.fetch("hf://org/repo", target, repositories=repositories)
        return
    with pytest.raises(SourceRefused, match="--source-hub-repos"):
        hub.fetch("hf://org/repo", target, repositories=repositories)
    assert hub.server.seen == []


def test_a_repository_that_was_moved_to_others(hub: HubOf, target: MemoryTarget) -> None:
    hub.info = {"id": "other/repo"}
    with pytest.raises(SourceRefused, match="other/repo"):
        hub.fetch("hf://org/repo", target)
    assert len(hub.server.seen) == 1


def test_a_repository_that_is_no_adapter(hub: HubOf, target: MemoryTarget) -> None:
    del hub.files["adapter_model.safetensors"]
    with pytest.raises(SourceNotFound, match=r"no adapter_model\.safetensors in hf://org/repo"):
        hub.fetch("hf://org/repo", target)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, SourceNotFound), (401, SourceDenied), (500, SourceFailed)]
)
def test_a_repository_that_cannot_be_had(
    hub: HubOf, target: MemoryTarget, status: int, kind: type[Exception]
) -> None:
    hub.open()
    hub.open = lambda: None  # type: ignore[method-assign]
    hub.server.paths["/api/models/org/repo/revision/main"] = File(b"", status=status)
    with pytest.raises(kind):
        hub.fetch("hf://org/repo", target)


@pytest.mark.parametrize(
    "info",
    [b"[]", b"{}", b"x", b'{"id": "org/repo"}', b'{"id": "org/repo", "sha": "../x"}'],
)
def test_an_answer_that_is_no_repository(hub: HubOf, target: MemoryTarget, info: bytes) -> None:
    hub.open()
    hub.open = lambda: None  # type: ignore[method-assign]
    hub.server.paths["/api/models/org/repo/revision/main"] = File(info)
    with pytest.raises(SourceFailed):
        hub.fetch("hf://org/repo", target)


def test_what_is_too_large_is_known_before_a_file_is_asked_for(
    hub: HubOf, target: MemoryTarget
) -> None:
    target.limit = len(WEIGHTS)
    with pytest.raises(UploadTooLarge):
        hub.fetch("hf://org/repo", target)
    assert len(hub.server.seen) == 1


@pytest.mark.parametrize("change", [lambda body: body[:-1] + b"x", lambda body: body + b"x"])
def test_a_file_that_is_not_what_the_hub_says(
    hub: HubOf, target: MemoryTarget, change: Callable[[bytes], bytes]
) -> None:
    hub.open()
    hub.open = lambda: None  # type: ignore[method-assign]
    hub.server.paths["/cdn/adapter_model.safetensors"] = File(change(WEIGHTS))
    with pytest.raises(SourceFailed, match="than its source says"):
        hub.fetch("hf://org/repo", target)


def test_a_hub_that_asks_to_wait(hub: HubOf, target: MemoryTarget) -> None:
    hub.open()
    hub.open = lambda: None  # type: ignore[method-assign]
    path = "/api/models/org/repo/revision/main"
    answers = [File(b"", status=429, headers={"Retry-After": "0"}), hub.server.paths[path]]

    def answer(request: BaseHTTPRequestHandler) -> None:
        answers.pop(0)(request)

    hub.server.paths[path] = answer
    assert hub.fetch("hf://org/repo", target) == COMMIT
