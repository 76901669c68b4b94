"""What is deleted is gone for new requests, there for running ones, and back when restored."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tiny_adapters as tiny
from tests.e2e.test_lifecycle import LONG, PROMPT, eventually, stream_text
from tests.server import Server


@pytest.fixture
def server(base_folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(base_folder, tmp_path, deleted_retention_s=request.param) as running:
        for seed in (1, 2):
            running.upload("task", tiny.write(tmp_path / f"v{seed}", seed)).raise_for_status()
        yield running


def status_of(server: Server, model: str) -> tuple[int, str | None]:
    body = {"model": model, "prompt": PROMPT}
    response = server.client.post("/v1/completions", json=body)
    return response.status_code, response.json().get("error", {}).get("code")


@pytest.mark.parametrize("server", [0], indirect=True)
def test_a_running_request_keeps_what_it_uses(server: Server, base_folder: Path) -> None:
    objects = server.store / ".repertoire" / "objects"
    started, results = threading.Event(), []
    reader = threading.Thread(target=lambda: results.append(stream_text(server, "task@1", started)))
    reader.start()
    assert started.wait(30)
    server.client.delete("/v1/adapters/task@1").raise_for_status()
    assert status_of(server, "task@1") == (404, "model_not_found")
    server.client.post("/v1/adapters:gc").raise_for_status()
    reader.join(60)
    text, reason = results[0]
    streamed = [int(word[1:]) for word in text.split()]
    assert (len(streamed), reason) == (LONG, "length")
    assert tiny.Reference(base_folder).agrees(1, PROMPT, streamed)
    assert eventually(lambda: len(list(objects.iterdir())) == 1), "without a grace it goes then"
    assert status_of(server, "task")[0] == 200


@pytest.mark.parametrize("server", [600], indirect=True)
def test_what_is_restored_answers_as_before(server: Server, base_folder: Path) -> None:
    reference = tiny.Reference(base_folder)
    for path, body in (("task@1", {"version": 1}), ("task", {})):
        assert status_of(server, "task@1")[0] == 200, "in memory when it is deleted"
        server.client.delete(f"/v1/adapters/{path}").raise_for_status()
        assert status_of(server, "task@1") == (404, "model_not_found")
        server.client.post("/v1/adapters/task/restore", json=body).raise_for_status()
        for seed in (1, 2):
            answer = server.complete(f"task@{seed}", PROMPT, ignore_eos=True)
            assert reference.agrees(seed, PROMPT, tiny.output_ids(answer))
