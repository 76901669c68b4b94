"""A base named by its hub id, fetched from a local stand-in that speaks the hub's protocol."""

import json
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.server import Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "some-org/tiny-llama"


class Hub(BaseHTTPRequestHandler):
    folder: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            return self._send(json.dumps(self._tree()).encode(), with_body)
        if path.startswith(f"/api/models/{REPOSITORY}"):
            siblings = [{"rfilename": one.name} for one in sorted(self.folder.iterdir())]
            info = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
            return self._send(json.dumps(info).encode(), with_body)
        file = self.folder / path.rsplit("/", 1)[-1]
        if path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/") and file.is_file():
            return self._send(file.read_bytes(), with_body)
        return self.send_error(404)

    def _tree(self) -> list[dict]:
        return [
            {
                "type": "file",
                "path": one.name,
                "size": one.stat().st_size,
                "oid": sha1(one.read_bytes()).hexdigest(),
            }
            for one in sorted(self.folder.iterdir())
        ]

    def _send(self, body: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub_url(base_folder: Path) -> Iterator[str]:
    handler = type("FolderHub", (Hub,), {"folder": base_folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_base_by_hub_id(hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server(Path(REPOSITORY), tmp_path) as server:
        answer = server.complete("tiny-llama", [5, 6, 7])
        assert answer["usage"]["completion_tokens"] > 0
        assert str(tmp_path) not in server.client.get("/v1/models").text
