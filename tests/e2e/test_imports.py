"""A server that fetches adapters itself, over HTTPS and from a folder of its own machine; what is
left of an import when it is killed."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e import tiny_adapters as tiny
from tests.server import Server
from tests.sources.https_server import File, HttpsServer, https_server
from tests.waiting import until


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsServer]:
    tiny.write(tmp_path / "root" / "one", 1)
    packed = shutil.make_archive(str(tmp_path / "one"), "gztar", tmp_path / "root", "one")
    with https_server() as made:
        made.paths["/one.tar.gz"] = File(Path(packed).read_bytes(), cut_after=200)
        made.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        yield made


def test_adapters_are_fetched_and_served(
    base_folder: Path, tmp_path: Path, files: HttpsServer
) -> None:
    allowed = {
        "source_hosts": files.host("localhost"),
        "source_tokens": f"{files.host('localhost')}=of-a-host",
        "source_networks": "127.0.0.0/8,::1/128",
        "source_root": tmp_path / "root",
    }
    url = files.url("/one.tar.gz", "localhost")
    gate = threading.Event()
    with Server(base_folder, tmp_path, **allowed) as server:
        ends = [
            end_of(server, begin(server, "web", f"{url}?signature=of-a-url")),
            end_of(server, begin(server, "local", "one")),
        ]
        assert [one["state"] for one in ends] == ["ready", "ready"], ends
        assert ends[0]["result"]["digest"] == ends[1]["result"]["digest"]
        texts = {
            server.complete(name, [5, 6, 7])["choices"][0]["text"] for name in ("web", "local")
        }
        assert len(texts) == 1
        origin = server.client.get("/v1/adapters/web").json()["current"]["origin"]
        assert (origin["source"], origin["revision"]) == (url, '"1"')
        (entry,) = [
            one for one in server.client.get("/v1/audit").json()["data"] if one["target"] == "web"
        ]
        assert entry["after"]["sources.1"] == {"source": url, "revision": '"1"'}
        assert server.metric("repertoire_imports_total", scheme="https", outcome="ready") == 1
        files.paths["/one.tar.gz"] = slow = File(b"x" * 1000, gate=gate)
        began = begin(server, "late", url)
        until(slow.is_gated.is_set)
        server.kill()
        gate.set()
        assert {one.headers["authorization"] for one in files.seen} == {"Bearer of-a-host"}
        assert not [one for one in ("of-a-host", "of-a-url") if one in server.log]
    with Server(base_folder, tmp_path, **allowed) as server:
        assert server.client.get(began.headers["location"]).status_code == 404
        names = [one["name"] for one in server.client.get("/v1/adapters").json()["data"]]
        assert names == ["local", "web"]
        assert not list((server.store / ".repertoire").rglob("upload-*"))


def begin(server: Server, name: str, source: str) -> httpx.Response:
    answer = server.client.post("/v1/adapters", json={"name": name, "source": source})
    assert answer.status_code == 202, answer.text
    return answer


def end_of(server: Server, began: httpx.Response) -> dict:
    seen: list[dict] = []

    def is_over() -> bool:
        seen.append(server.client.get(began.headers["location"]).json())
        return seen[-1]["finished_at"] is not None

    until(is_over)
    return seen[-1]
