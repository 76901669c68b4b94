"""A real replica, as those see it that decide whom a request is sent to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.arena import PAGE_BYTES
from tests.e2e import tiny_adapters as tiny
from tests.e2e.gated import Gated, gated
from tests.endpoint_picker import Loaded, Seen, read
from tests.waiting import until

ROOM = {"device_adapter_bytes": 2 * PAGE_BYTES, "host_adapter_bytes": 3 * tiny.COMPILED_BYTES}
"""For two adapters on the device and three in memory."""
NAMES = ("hot", "cold", "other", "last")


@pytest.fixture
def replica(base_folder: Path, tmp_path: Path) -> Iterator[Gated]:
    with gated(base_folder, tmp_path, **ROOM, verify_uploads=False) as replica:
        for seed, name in enumerate(NAMES):
            upload(replica, name, tiny.write(tmp_path / name, seed))
        yield replica


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as clients:
        yield clients


def upload(replica: Gated, name: str, folder: Path) -> None:
    files = [("files", (path.name, path.read_bytes())) for path in folder.iterdir()]
    response = replica.client.post("/v1/adapters", data={"name": name}, files=files)
    assert response.status_code == 201, response.text


def ask(replica: Gated, model: str) -> httpx.Response:
    body = {"model": model, "prompt": [5, 6, 7], "max_tokens": 3, "temperature": 0}
    response = httpx.post(f"{replica.url}/v1/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response


def scrape(replica: Gated) -> Seen:
    return read(replica.client.get("/metrics").text)


def residency(replica: Gated, **params: Any) -> Any:
    response = replica.client.get("/v1/residency", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def tiers(replica: Gated) -> dict[str, str]:
    return {one["name"]: one["tier"] for one in residency(replica)["data"]}


def test_a_router_sees_what_runs_what_waits_and_what_stays(
    replica: Gated, clients: ThreadPoolExecutor
) -> None:
    check_start(replica)
    ask(replica, "hot")
    replica.loads.shut()
    answers = [clients.submit(ask, replica, "cold") for _ in range(2)]
    until(lambda: scrape(replica).num_waiting == 2)
    replica.steps.shut()
    answers.append(clients.submit(ask, replica, "hot"))
    replica.steps.wait_for_next()
    check_load(replica)
    replica.loads.opened.set()
    replica.steps.opened.set()
    for answer in answers:
        answer.result()
    check_idle(replica)
    check_eviction(replica)
    check_deletion(replica)


def check_start(replica: Gated) -> None:
    seen = scrape(replica)
    assert (seen.num_running, seen.num_waiting, seen.kv_usage) == (0, 0, 0)
    assert seen.block_size * seen.num_blocks > 0
    assert (seen.active, seen.waiting, seen.loaded) == (frozenset(), frozenset(), {})
    assert (seen.max_active, seen.max_on_gpu, seen.num_on_gpu, seen.num_on_cpu) == (2, 2, 0, 0)
    assert (seen.base, seen.seconds) == ("tiny-llama", {})
    assert (seen.affinity("hot"), seen.load_state("hot")) == (0.8, 0.6)
    assert tiers(replica) == dict.fromkeys(NAMES, "disk")


def check_load(replica: Gated) -> None:
    """`hot` is in the batch, two requests wait for the load of `cold`."""
    seen = scrape(replica)
    assert (seen.active, seen.waiting) == ({"hot"}, {"cold"})
    assert (seen.num_running, seen.num_waiting) == (1, 2)
    assert 0 < seen.kv_usage < 1
    assert seen.loaded == {"hot": Loaded("gpu", False, tiny.RANK)}
    assert (seen.num_on_gpu, seen.num_on_cpu, seen.max_on_gpu) == (1, 1, 2)
    assert [seen.affinity(name) for name in ("hot", "cold", "other")] == [1.0, 0.6, 0.0]
    rows = {one["name"]: one for one in residency(replica)["data"]}
    assert {name: (one["running"], one["waiting"]) for name, one in rows.items()} == {
        "hot": (1, 0),
        "cold": (0, 2),
        "other": (0, 0),
        "last": (0, 0),
    }
    assert residency(replica)["queue"]["cold"] == 2


def check_idle(replica: Gated) -> None:
    until(lambda: scrape(replica).num_running == 0)
    seen = scrape(replica)
    assert (seen.num_waiting, seen.active, seen.waiting) == (0, frozenset(), frozenset())
    on_gpu = Loaded("gpu", False, tiny.RANK)
    assert seen.loaded == {"hot": on_gpu, "cold": on_gpu}
    assert (seen.num_on_gpu, seen.num_on_cpu, seen.max_on_gpu) == (2, 2, 2)
    assert seen.seconds.keys() == {"load", "activate"}
    scores = [seen.load_state(name) for name in ("hot", "cold", "other")]
    assert scores == [1.0, 1.0, 0.3], "there is room after an eviction"


def check_eviction(replica: Gated) -> None:
    before = residency(replica)["generation"]
    ask(replica, "other")
    ask(replica, "last")
    seen = scrape(replica)
    levels = {name: one.level for name, one in seen.loaded.items()}
    (kept,) = levels.keys() & {"hot", "cold"}
    assert levels == {"other": "gpu", "last": "gpu", kept: "cpu"}
    assert (seen.num_on_gpu, seen.num_on_cpu) == (2, 3)
    (gone,) = {"hot", "cold"} - {kept}
    assert tiers(replica) == {"other": "device", "last": "device", kept: "host", gone: "disk"}
    body = residency(replica)
    assert body["generation"] != before
    assert body["tiers"]["host"]["bytes"] == 3 * tiny.COMPILED_BYTES
    assert body["tiers"]["device"]["budget_bytes"] == ROOM["device_adapter_bytes"]


def check_deletion(replica: Gated) -> None:
    assert replica.client.delete("/v1/adapters/last").status_code == 200
    assert "last" not in scrape(replica).loaded
    assert "last" not in tiers(replica)
    until(lambda: scrape(replica).num_on_gpu == 1)


def test_an_idle_replica_answers_polls_without_a_body(replica: Gated) -> None:
    ask(replica, "hot")
    etag = replica.client.get("/v1/residency").headers["etag"]
    ask(replica, "hot")
    again = replica.client.get("/v1/residency", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    ask(replica, "other")
    moved = replica.client.get("/v1/residency", headers={"If-None-Match": etag})
    assert moved.status_code == 200
    assert moved.headers["etag"] != etag
