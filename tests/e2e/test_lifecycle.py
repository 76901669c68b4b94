"""What users of a running server rely on: versions, leaving clients, SIGTERM, kill -9."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

PROMPT = [5, 9, 40, 77]
LONG = 100


def eventually(is_true: Callable[[], bool]) -> bool:
    for _ in range(100):
        if is_true():
            return True
        time.sleep(0.1)
    return False


def is_idle(server: Server) -> bool:
    return not (
        server.metric("repertoire_num_requests_running")
        or server.metric("repertoire_num_requests_waiting")
        or server.metric("repertoire_num_requests_cold")
        or server.metric("repertoire_kv_cache_usage_ratio")
    )


def stream_text(server: Server, model: str, started: threading.Event) -> tuple[str, str | None]:
    """Text and finish reason of a long stream; `started` is set at its first token."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": LONG, "temperature": 0}
    body |= {"ignore_eos": True, "stream": True}
    text, reason = "", None
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: {"):
                choice = json.loads(line[6:])["choices"][0]
                text, reason = text + choice["text"], choice["finish_reason"]
                started.set()
    return text, reason


@pytest.fixture
def server(base_folder: Path, tmp_path: Path) -> Server:
    with Server(base_folder, tmp_path) as running:
        yield running


def test_a_new_version_leaves_running_requests_alone(
    server: Server, base_folder: Path, tmp_path: Path
) -> None:
    first, second = (tiny.write(tmp_path / f"v{seed}", seed) for seed in (1, 2))
    assert server.upload("task", first).json()["version"] == 1
    started, results = threading.Event(), []
    reader = threading.Thread(target=lambda: results.append(stream_text(server, "task", started)))
    reader.start()
    assert started.wait(30)
    assert server.upload("task", second).json()["version"] == 2
    new = tiny.output_ids(server.complete("task", PROMPT, ignore_eos=True))
    old = tiny.output_ids(server.complete("task@1", PROMPT, ignore_eos=True))
    reader.join(60)
    text, reason = results[0]
    streamed = [int(word[1:]) for word in text.split()]
    reference = tiny.Reference(base_folder)
    assert (len(streamed), reason) == (LONG, "length")
    assert reference.agrees(1, PROMPT, streamed)
    assert not reference.agrees(2, PROMPT, streamed)
    assert reference.agrees(1, PROMPT, old)
    assert reference.agrees(2, PROMPT, new)


def test_an_unknown_or_deleted_adapter_is_never_the_base(server: Server, tmp_path: Path) -> None:
    server.upload("gone", tiny.write(tmp_path / "gone", 3)).raise_for_status()
    assert server.client.delete("/v1/adapters/gone").status_code == 200
    for model in ("gone", "gone@1", "never-there"):
        body = {"model": model, "prompt": PROMPT}
        response = server.client.post("/v1/completions", json=body)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


def test_a_client_that_leaves_frees_its_blocks(server: Server) -> None:
    body = {"model": "tiny-llama", "prompt": PROMPT, "max_tokens": 120, "ignore_eos": True}
    for fields in ({"stream": True}, {}, {"n": 4}, {"stream": True, "n": 4}):
        before = server.metric("repertoire_engine_generated_tokens_total")
        leave(server, body | fields)
        assert eventually(lambda: is_idle(server))
        after = server.metric("repertoire_engine_generated_tokens_total")
        assert after - before < 120 * fields.get("n", 1)


def leave(server: Server, body: dict) -> None:
    """At the first line of a stream; otherwise when the answer does not come at once."""
    if body.get("stream"):
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as response:
            next(response.iter_lines())
        return
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{server.url}/v1/completions", json=body, timeout=0.05)


def test_sigterm_finishes_what_runs_and_exits_cleanly(server: Server) -> None:
    started, results = threading.Event(), []
    reader = threading.Thread(
        target=lambda: results.append(stream_text(server, "tiny-llama", started))
    )
    reader.start()
    assert started.wait(30)
    assert server.terminate() == 0
    reader.join(30)
    text, reason = results[0]
    assert (len(text.split()), reason) == (LONG, "length")


def test_an_acknowledged_upload_survives_kill_9(base_folder: Path, tmp_path: Path) -> None:
    with Server(base_folder, tmp_path) as server:
        server.upload("kept", tiny.write(tmp_path / "kept", 4)).raise_for_status()
        before = server.complete("kept", PROMPT)["choices"]
        server.kill()
    with Server(base_folder, tmp_path) as server:
        assert server.complete("kept", PROMPT)["choices"] == before
        assert server.client.delete("/v1/adapters/kept").status_code == 200
        server.kill()
    with Server(base_folder, tmp_path) as server:
        assert server.client.get("/v1/adapters/kept").status_code == 404
        assert not list((server.store / ".repertoire" / "tmp").iterdir())


def test_openai_client_names_the_adapter_as_model(server: Server, tmp_path: Path) -> None:
    server.upload("task", tiny.write(tmp_path / "task", 5)).raise_for_status()
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    whole = client.completions.create(model="task", prompt="t5 t9", temperature=0, max_tokens=6)
    chunks = client.completions.create(
        model="task", prompt="t5 t9", temperature=0, max_tokens=6, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [model.id for model in client.models.list()] == ["tiny-llama", "task"]
    assert client.models.retrieve("task@1").id == "task@1"


def test_prompts_are_never_logged(server: Server) -> None:
    server.complete("tiny-llama", "t101 t102 t103 t104", logprobs=1, echo=True)
    assert "t102" not in server.log
