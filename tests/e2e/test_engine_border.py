"""What clients see of the engine when they leave or when it fails: real model, real HTTP."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import wait_until
from tests.e2e import tiny_adapters as tiny
from tests.e2e.gated import Gated, gated

BODY = {"model": "tiny-llama", "prompt": [5, 9, 40], "max_tokens": 100, "ignore_eos": True}
SECONDS = 30


@pytest.fixture(scope="module")
def service(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    work = tmp_path_factory.mktemp("gated")
    with gated(base_folder, work, max_num_seqs=4) as one:
        upload(one, "a1", tiny.write(work / "a1", 1))
        yield one


def upload(service: Gated, name: str, folder: Path) -> None:
    files = [("files", (one.name, one.read_bytes())) for one in sorted(folder.iterdir())]
    answer = service.client.post("/v1/adapters", data={"name": name}, files=files)
    assert answer.status_code == 201, answer.text


def assert_nothing_is_left(service: Gated) -> None:
    def is_idle() -> bool:
        stats = service.engine.stats()
        counts = (stats.num_running, stats.num_waiting, stats.num_cold, stats.kv_blocks_used)
        return service.engine.num_open == 0 and counts == (0, 0, 0, 0)

    wait_until(is_idle, SECONDS)


class Caller:
    """A client whose request is open in the engine, and who stays until it leaves."""

    def __init__(self, service: Gated, n: int = 1, **fields: object) -> None:
        num_open = service.engine.num_open
        # httpx would drop the connection when it is tired of waiting: this one just does not read.
        self._connection = HTTPConnection(service.url.removeprefix("http://"))
        headers = {"Content-Type": "application/json"}
        body = json.dumps(BODY | {"n": n} | fields)
        self._connection.request("POST", "/v1/completions", body, headers)
        wait_until(lambda: service.engine.num_open == num_open + n, SECONDS)

    def leave(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_at_most_the_step_under_way_is_computed_for_who_has_left(
    service: Gated, stream: bool, n: int
) -> None:
    before = len(service.steps.seen)
    service.steps.shut()
    Caller(service, stream=stream, n=n, prompt=[5, 9, 41 + n]).leave()
    wait_until(lambda: service.engine.num_open == 0, SECONDS)
    service.steps.opened.set()
    assert_nothing_is_left(service)
    assert len(service.steps.seen) - before <= 2


def test_a_stream_left_in_its_middle_starts_at_most_one_more_step(service: Gated) -> None:
    with httpx.stream(
        "POST", f"{service.url}/v1/completions", json=BODY | {"stream": True}
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        service.steps.shut()
        service.steps.wait_for_next()
        before = len(service.steps.seen)
    wait_until(lambda: service.engine.num_open == 0, SECONDS)
    service.steps.opened.set()
    assert_nothing_is_left(service)
    assert len(service.steps.seen) - before <= 1


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_the_queue_is_never_computed(service: Gated, stream: bool) -> None:
    service.steps.shut()
    running = Caller(service, n=4)  # Takes every place of the batch.
    queued_prompt = [101, 102, 103, 104]
    Caller(service, stream=stream, prompt=queued_prompt, n=2).leave()
    wait_until(lambda: service.engine.num_open == 4, SECONDS)
    service.steps.opened.set()
    running.leave()
    assert_nothing_is_left(service)
    assert not service.has_computed(queued_prompt)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_during_a_cold_load_is_never_computed(service: Gated, stream: bool) -> None:
    service.engine.unload(service.services.adapters.registry.resolve("a1").digest)
    prompt = [111, 112, 113, 114]
    service.loads.shut()
    Caller(service, model="a1", stream=stream, prompt=prompt, n=2).leave()
    service.loads.wait_for_next()
    wait_until(lambda: service.engine.num_open == 0, SECONDS)
    wait_until(lambda: service.engine.stats().num_cold == 0, SECONDS)
    service.loads.opened.set()
    assert_nothing_is_left(service)
    assert not service.has_computed(prompt)
    # The load went on, and the next one finds the adapter.
    again = service.client.post("/v1/completions", json=BODY | {"model": "a1"})
    assert again.status_code == 200
    assert service.has_computed(BODY["prompt"])


def test_an_exception_in_the_engine_ends_every_stream_and_turns_the_probes_red(
    base_folder: Path, tmp_path: Path
) -> None:
    with gated(base_folder, tmp_path) as service:
        streamed = BODY | {"stream": True}
        url = f"{service.url}/v1/completions"
        with httpx.stream("POST", url, json=streamed, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            service.steps.error = RuntimeError("the secret of the device")
            frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            assert answer.status_code == 200
        assert frames[-1]["error"]["code"] == "engine_failed"
        assert "secret" not in str(frames)
        probes = {path: service.client.get(path).status_code for path in ("/health", "/ready")}
        assert probes == {"/health": 503, "/ready": 503}
        refused = service.client.post("/v1/completions", json=BODY)
        assert refused.status_code == 500
        assert refused.json()["error"]["code"] == "engine_failed"
        assert service.client.get("/metrics").status_code == 200
