"""Probes, shutdown, keys, request ids, metrics: what operators rely on."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.types import Message

from service.api.middleware import DrainMiddleware
from service.api.server import Drain, DrainingServer
from service.handlers.lifecycle import Lifecycle
from tests.api.conftest import World, run, wait_until

BODY = {"model": "alpha", "prompt": "Hi", "max_tokens": 8}


def ask(world: World, method: str, path: str, **fields: Any) -> httpx.Response:
    async def work() -> httpx.Response:
        async with world.client() as client:
            return await client.request(method, path, **fields)

    world.lifecycle.mark_ready()
    response: httpx.Response = run(work())
    return response


def test_probes(world: World) -> None:
    assert ask(world, "GET", "/health").status_code == 200
    assert ask(world, "GET", "/ready").json() == {"status": "ready"}


def test_a_dead_engine_turns_both_probes_red(world: World) -> None:
    world.engine.is_healthy = False
    assert ask(world, "GET", "/health").status_code == 503
    assert ask(world, "GET", "/ready").status_code == 503


def test_not_ready_before_the_start_is_over(world: World) -> None:
    async def work() -> httpx.Response:
        async with world.client() as client:
            return await client.get("/ready")

    assert run(work()).status_code == 503


def test_draining_turns_new_requests_away(world: World) -> None:
    world.lifecycle.start_draining()
    assert ask(world, "GET", "/health").status_code == 200
    assert ask(world, "GET", "/ready").json() == {"status": "draining"}
    for method, path in [("POST", "/v1/completions"), ("GET", "/v1/models")]:
        response = ask(world, method, path, json=BODY)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["error"]["code"] == "draining"
        assert response.headers["x-request-id"]
    assert ask(world, "GET", "/metrics").status_code == 200


def test_version(world: World) -> None:
    shown = ask(world, "GET", "/version").json()
    assert shown["model"] == "tiny"
    assert shown["version"] == "0.1.0"
    assert "nowhere" not in json.dumps(shown)


def test_metrics(world: World) -> None:
    async def work() -> str:
        async with world.client() as client:
            await client.post("/v1/completions", json=BODY)
            await client.post("/v1/completions", json={**BODY, "model": "gamma"})
            await client.get("/v1/models/whatever/a/client/types")
            await client.get("/wp-login.php")
            return (await client.get("/metrics")).text

    text = run(work())
    for line in [
        'repertoire_requests_total{endpoint="/v1/completions",status="200"} 1.0',
        'repertoire_requests_total{endpoint="/v1/completions",status="404"} 1.0',
        'repertoire_requests_total{endpoint="/v1/models/{model:path}",status="404"} 1.0',
        'repertoire_requests_total{endpoint="other",status="404"} 1.0',
        "repertoire_prompt_tokens_total 3.0",
        "repertoire_generation_tokens_total 8.0",
        "repertoire_time_to_first_token_seconds_count 1.0",
        "repertoire_inter_token_latency_seconds_count 7.0",
        "repertoire_e2e_request_latency_seconds_count 1.0",
        "repertoire_num_requests_waiting 0.0",
    ]:
        assert line in text.splitlines(), line
    assert "alpha" not in text, "names are no labels: anyone could make new series"


class TestKeys:
    @pytest.fixture(autouse=True)
    def _keys(self, world: World) -> None:
        world.settings["api_key"] = ("first-key", "second-key")

    @pytest.mark.parametrize(
        "path", ["/v1/models", "/metrics", "/version", "/docs", "/openapi.json", "/nothing"]
    )
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer "},
            {"Authorization": "first-key"},
            {"Authorization": "Basic first-key"},
            {"Authorization": "Bearer first-key second-key"},
            {"X-Api-Key": "first-key"},
        ],
        ids=str,
    )
    def test_everything_is_closed(self, world: World, path: str, headers: dict[str, str]) -> None:
        response = ask(world, "GET", path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["x-request-id"]

    def test_uploads_are_refused_before_they_are_read(self, world: World) -> None:
        num_read = 0

        async def chunks() -> Any:
            nonlocal num_read
            num_read += 1
            yield b"x" * 1000

        assert ask(world, "POST", "/v1/adapters", content=chunks()).status_code == 401
        assert num_read == 0

    @pytest.mark.parametrize("path", ["/health", "/ready"])
    def test_but_the_probes(self, world: World, path: str) -> None:
        assert ask(world, "GET", path).status_code == 200

    @pytest.mark.parametrize("key", ["first-key", "second-key"])
    def test_any_of_the_keys(self, world: World, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        assert ask(world, "GET", "/v1/models", headers=headers).status_code == 200
        assert ask(world, "POST", "/v1/completions", json=BODY, headers=headers).status_code == 200


def test_request_ids(world: World) -> None:
    given = ask(world, "GET", "/health", headers={"X-Request-Id": "trace-1:2/3"})
    assert given.headers["x-request-id"] == "trace-1:2/3"
    made = ask(world, "GET", "/health").headers["x-request-id"]
    assert len(made) == 32
    for forged in ["", "a b", "x" * 129, "<script>", 'a"b', "\u00e9"]:
        headers = {"X-Request-Id": forged.encode()}
        response = ask(world, "GET", "/health", headers=headers)
        assert response.headers["x-request-id"] != forged
        assert len(response.headers["x-request-id"]) == 32


def test_one_log_line_per_request_without_content(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.telemetry import configure_logging

    configure_logging("info", "json")
    try:
        headers = {"X-Request-Id": "abc"}
        body = {**BODY, "prompt": "my secret prompt", "max_tokens": 50}
        ask(world, "POST", "/v1/completions", json=body, headers=headers)
    finally:
        logging.getLogger().handlers[0].flush()
    captured = capsys.readouterr().err
    configure_logging("warning", "json")
    assert "secret" not in captured
    assert "I am alpha" not in captured
    lines = [json.loads(one) for one in captured.splitlines()]
    line = next(one for one in lines if one["event"] == "request")
    assert line["request_id"] == "abc"
    assert line["model"] == "alpha"
    assert line["adapter"] == "alpha"
    assert line["version"] == 2
    assert line["status"] == 200
    assert line["prompt_tokens"] == 17
    assert line["generated_tokens"] == 22
    assert line["ttft_s"] <= line["seconds"]


def test_openapi_documents_the_error_shape(world: World) -> None:
    document = ask(world, "GET", "/openapi.json").json()
    responses = document["paths"]["/v1/completions"]["post"]["responses"]
    shape = responses["400"]["content"]["application/json"]["schema"]["$ref"]
    assert shape == "#/components/schemas/ErrorBody"
    assert "HTTPValidationError" not in json.dumps(document)
    assert {"/v1/chat/completions", "/v1/models", "/v1/adapters", "/health", "/metrics"} <= set(
        document["paths"]
    )


class Running:
    """A draining server in a thread, signalled as the operating system would."""

    def __init__(self, world: World, drain: Drain) -> None:
        config = uvicorn.Config(
            world.app(), port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=1
        )
        self.urls: list[str] = []
        self.server = DrainingServer(
            config, world.lifecycle, drain, self.urls.append, world.engine.cut_off
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: bool(self.urls))
        self.url = self.urls[0]

    def terminate(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)


@pytest.fixture
def running(world: World) -> Iterator[Running]:
    one = Running(world, Drain(delay_s=0, timeout_s=30))
    yield one
    one.server.should_exit = True
    one.thread.join(timeout=10)


def test_a_running_stream_finishes_and_probes_are_answered_meanwhile(
    world: World, running: Running
) -> None:
    world.engine.seconds_per_token = 0.03
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client:
        stream = iter(
            client.completions.create(model="alpha", prompt="Hi", max_tokens=50, stream=True)
        )
        text = next(stream).choices[0].text
        running.terminate()
        assert httpx.get(f"{running.url}/ready").status_code == 503
        assert httpx.get(f"{running.url}/health").status_code == 200
        refused = httpx.post(f"{running.url}/v1/completions", json=BODY)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        text += "".join(chunk.choices[0].text for chunk in stream)
    assert text == "I am alpha, choice 0."
    running.thread.join(timeout=5)
    assert not running.thread.is_alive()
    assert world.engine.aborted == []


def test_an_idle_server_ends_at_once(running: Running) -> None:
    started = time.monotonic()
    running.terminate()
    running.thread.join(timeout=5)
    assert time.monotonic() - started < 1.5


def test_what_comes_before_balancers_have_noticed_is_served(world: World) -> None:
    running = Running(world, Drain(delay_s=1.5, timeout_s=30))
    with httpx.Client(base_url=running.url) as client:
        answer = client.post("/v1/completions", json=BODY)
        assert "connection" not in answer.headers
        running.terminate()
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "leaving"})
        # The connection of before, and one that is made only now.
        for sender in (client, httpx.Client(base_url=running.url)):
            answer = sender.post("/v1/completions", json=BODY)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
    running.thread.join(timeout=30)
    assert not running.thread.is_alive()
    assert len(world.engine.submitted) == 3


def test_a_stream_that_began_in_the_delay_has_the_whole_drain(world: World) -> None:
    world.engine.seconds_per_token = 0.05
    running = Running(world, Drain(delay_s=0.5, timeout_s=30))
    running.terminate()
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client:
        stream = client.completions.create(model="alpha", prompt="Hi", max_tokens=50, stream=True)
        text = "".join(chunk.choices[0].text for chunk in stream)
    assert text == "I am alpha, choice 0."
    running.thread.join(timeout=30)
    assert not running.thread.is_alive()


def test_the_drain_has_an_end(world: World) -> None:
    world.engine.first_token = asyncio.Event()
    running = Running(world, Drain(delay_s=0, timeout_s=0.3))
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(httpx.post(f"{running.url}/v1/completions", json=BODY, timeout=20))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    wait_until(lambda: len(world.engine.submitted) == 1)
    running.terminate()
    running.thread.join(timeout=6)
    assert not running.thread.is_alive()
    wait_until(world.is_all_given_back)
    sender.join(timeout=20)
    assert answers[0].status_code == 503
    assert answers[0].json()["error"]["code"] == "draining"
    assert answers[0].headers["connection"] == "close"


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_and_is_not_done(world: World) -> None:
    world.engine.seconds_per_token = 0.05
    world.engine.reply = lambda request: "x" * 100_000
    running = Running(world, Drain(delay_s=0, timeout_s=0.3))
    body = {**BODY, "max_tokens": 100, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{running.url}/v1/completions", json=body, timeout=20) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert '"text":"x"' in next(lines)
        running.terminate()
        last = list(lines)[-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "draining"
    running.thread.join(timeout=6)
    assert not running.thread.is_alive()
    wait_until(world.is_all_given_back)


def test_openais_client_raises_what_ended_such_a_stream(world: World) -> None:
    world.engine.seconds_per_token = 0.05
    world.engine.reply = lambda request: "x" * 100_000
    running = Running(world, Drain(delay_s=0, timeout_s=0.3))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client:
        stream = client.completions.create(model="alpha", prompt="Hi", max_tokens=100, stream=True)
        assert next(stream).choices[0].text == "x"
        running.terminate()
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
    running.thread.join(timeout=6)


def test_what_is_no_stream_and_outlasts_the_drain_is_told_that_it_was_not_done() -> None:
    async def work() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        has_begun = asyncio.Event()

        async def endless(*_: object) -> None:
            has_begun.set()
            await asyncio.sleep(60)

        lifecycle = Lifecycle()
        scope = {"type": "http", "path": "/v1/adapters", "headers": []}
        request = asyncio.create_task(DrainMiddleware(endless, lifecycle)(scope, endless, send))
        await has_begun.wait()
        lifecycle.start_draining()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return sent

    start, body = run(work())
    assert start["status"] == 503
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "draining"


class SlowReader:
    """A connection whose answer is complete, and whose client has not taken all of it."""

    num_unsent = 1000

    @property
    def transport(self) -> "SlowReader":
        return self

    def get_write_buffer_size(self) -> int:
        return self.num_unsent

    def shutdown(self) -> None:
        assert not self.num_unsent, "the connection is given up"


def test_an_answer_that_is_read_slowly_is_read_to_its_end(running: Running) -> None:
    reader = SlowReader()
    running.server.server_state.connections.add(reader)  # type: ignore[arg-type]
    running.terminate()
    running.thread.join(timeout=0.5)
    assert running.thread.is_alive()
    reader.num_unsent = 0
    wait_until(lambda: running.server.lifespan.should_exit or not running.server.servers[0].sockets)
    running.server.server_state.connections.discard(reader)  # type: ignore[arg-type]
    running.thread.join(timeout=10)
    assert not running.thread.is_alive()


PROGRAM = """
import sys
from service.api.server import run_server
from tests.api.conftest import World
world = World()
world.engine.seconds_per_token = 0.05
app = world.app()
settings = app.state.services.settings.model_copy(update={"port": 0})
report = lambda url: print(url, flush=True)
sys.exit(run_server(app, settings, world.lifecycle, report))
"""


def test_sigterm_ends_the_process_with_code_0_after_the_stream() -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        stream = iter(
            client.completions.create(model="beta", prompt="Hi", max_tokens=50, stream=True)
        )
        text = next(stream).choices[0].text
        process.send_signal(signal.SIGTERM)
        text += "".join(chunk.choices[0].text for chunk in stream)
    assert text == "I am beta, choice 0."
    assert process.wait(timeout=10) == 0
