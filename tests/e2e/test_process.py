"""The process as an operator sees it: drained by SIGTERM, killed among uploads, fed archives."""

import io
import json
import random
import signal
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e import tiny_adapters as tiny
from tests.e2e.test_lifecycle import PROMPT, eventually
from tests.server import Server


def test_sigterm_turns_ready_red_and_callers_away_while_a_stream_still_runs(
    base_folder: Path, tmp_path: Path
) -> None:
    """The stream is larger than what sockets buffer, so it cannot end before it is read."""
    body = {"model": "tiny-llama", "prompt": PROMPT, "max_tokens": 120, "n": 16, "stream": True}
    body |= {"ignore_eos": True, "logprobs": 20}
    with Server(base_folder, tmp_path, max_num_seqs=16) as server:
        url = f"{server.url}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: server.client.get("/ready").status_code == 503)
            assert server.client.get("/health").status_code == 200
            refused = server.client.post("/v1/completions", json=body)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["error"]["code"] == "draining"
            assert server.process.poll() is None
            frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        reasons = [one["finish_reason"] for frame in frames for one in frame["choices"]]
        assert reasons.count("length") == 16
        assert server.process.wait(timeout=60) == 0


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_an_archive_is_used_at_once(base_folder: Path, tmp_path: Path, form: str) -> None:
    folder = tiny.write(tmp_path / "made", 6)
    packed = {"zip": pack_zip, "tar.gz": pack_tar}[form](folder)
    with Server(base_folder, tmp_path) as server:
        answer = server.client.post(
            "/v1/adapters", data={"name": "packed"}, files={"archive": (f"a.{form}", packed)}
        )
        assert answer.status_code == 201, answer.text
        outputs = tiny.output_ids(server.complete("packed", PROMPT, ignore_eos=True))
    assert tiny.Reference(base_folder).agrees(6, PROMPT, outputs)
    assert not tiny.Reference(base_folder).agrees(7, PROMPT, outputs)


def pack_zip(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"folder/{path.name}")
    return packed.getvalue()


def pack_tar(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, "folder")
    return packed.getvalue()


@pytest.mark.parametrize(
    "num_kills", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_what_was_acknowledged_survives_kills_at_random_moments(
    base_folder: Path, tmp_path: Path, num_kills: int
) -> None:
    draw, seeds = random.Random(num_kills), iter(range(100_000))
    uploads = Uploads(tmp_path / "made")
    for _ in range(num_kills):
        with Server(base_folder, tmp_path) as server:
            uploads.check(server)
            uploader = threading.Thread(target=uploads.go_on, args=(server, seeds))
            uploader.start()
            time.sleep(draw.uniform(0.2, 1.5))
            server.kill()
            uploader.join(60)
    with Server(base_folder, tmp_path) as server:
        uploads.check(server)
        for name in draw.sample(sorted(uploads.acknowledged), min(3, len(uploads.acknowledged))):
            digest, seed = uploads.acknowledged[name]
            outputs = tiny.output_ids(server.complete(name, PROMPT, ignore_eos=True))
            assert tiny.Reference(base_folder).agrees(seed, PROMPT, outputs), digest
    assert uploads.acknowledged
    assert uploads.num_cut_off == num_kills


class Uploads:
    """Two names take turns in getting new versions; every third upload is a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.acknowledged: dict[str, tuple[str, int]] = {}
        """Digest and seed of each name's last acknowledged upload."""
        self.num_cut_off = 0
        self._folder = folder
        self._pending: dict[str, int] = {}

    def go_on(self, server: Server, seeds: Iterator[int]) -> None:
        """Until the server is gone."""
        for seed in seeds:
            name = f"new{seed}" if seed % 3 == 0 else f"name{seed % 3}"
            self._pending[name] = seed
            try:
                answer = server.upload(name, tiny.write(self._folder / f"a{seed}", seed))
            except httpx.TransportError:
                self.num_cut_off += 1
                return
            assert answer.status_code == 201, answer.text
            self.acknowledged[name] = (answer.json()["digest"], seed)
            del self._pending[name]

    def check(self, server: Server) -> None:
        """Every name leads to its last acknowledged upload, or to the one that was cut off."""
        page = server.client.get("/v1/adapters", params={"limit": 1000}).json()
        found = {one["name"]: one for one in page["data"]}
        assert set(self.acknowledged) <= set(found) <= set(self.acknowledged) | set(self._pending)
        for name, adapter in found.items():
            assert adapter["state"] == "ready"
            last = adapter["versions"][-1]["digest"]
            if name in self._pending:
                seed = self._pending.pop(name)
                if name not in self.acknowledged or last != self.acknowledged[name][0]:
                    self.acknowledged[name] = (last, seed)
            assert last == self.acknowledged[name][0]
        self._pending.clear()
        assert not list((server.store / ".repertoire" / "tmp").iterdir())
