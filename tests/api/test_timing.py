"""What an answer's headers and its log line say about where its time went."""

import re
from typing import Any

import httpx
import pytest
import structlog

from service.core import GenerationRequest
from service.errors import ColdLoadTimeout
from tests.api.conftest import World, run

COMPLETION = {"model": "alpha", "prompt": "Hi", "max_tokens": 4}
CHAT = {"model": "alpha", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def post(world: World, path: str, body: dict[str, Any]) -> httpx.Response:
    async def work() -> httpx.Response:
        async with world.client() as client:
            return await client.post(f"/v1/{path}", json=body)

    response: httpx.Response = run(work())
    return response


def durations(response: httpx.Response) -> dict[str, float]:
    pairs = [re.fullmatch(r"(\w+);dur=(\d+\.\d)", one) for one in timing(response).split(", ")]
    return {one[1]: float(one[2]) for one in pairs if one is not None}


def timing(response: httpx.Response) -> str:
    return response.headers["server-timing"]


@pytest.mark.parametrize(
    ("path", "body"), [("completions", COMPLETION), ("chat/completions", CHAT)]
)
def test_a_whole_answer_tells_tier_and_all_phases(
    world: World, path: str, body: dict[str, Any]
) -> None:
    world.engine.tier, world.engine.load_seconds = "disk", lambda request: 0.25
    world.engine.seconds_per_token = 0.01
    response = post(world, path, body)
    assert response.headers["x-adapter-tier"] == "disk"
    found = durations(response)
    assert list(found) == ["queue", "load", "prefill", "decode"]
    assert found["queue"] == pytest.approx(2, abs=0.2)
    assert found["load"] == pytest.approx(250, abs=0.2)
    assert found["prefill"] >= 10
    assert found["decode"] >= 30


@pytest.mark.parametrize(
    ("path", "body"), [("completions", COMPLETION), ("chat/completions", CHAT)]
)
def test_a_stream_tells_what_is_known_at_its_first_token(
    world: World, path: str, body: dict[str, Any]
) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = post(world, path, body | options)
    assert response.headers["x-adapter-tier"] == "device"
    assert list(durations(response)) == ["queue", "load", "prefill"]
    assert "dur" not in response.text
    assert "tier" not in response.text


def test_the_base_has_no_tier(world: World) -> None:
    response = post(world, "completions", COMPLETION | {"model": "tiny"})
    assert "x-adapter-tier" not in response.headers
    assert list(durations(response)) == ["queue", "load", "prefill", "decode"]


@pytest.mark.parametrize("body", [{"n": 3}, {"prompt": ["a", "b", "c"]}])
def test_the_slowest_sequence_tells(world: World, body: dict[str, Any]) -> None:
    def load_seconds(request: GenerationRequest) -> float:
        return 0.5 if request.request_id.endswith("-1") else 0.0

    world.engine.load_seconds = load_seconds
    assert durations(post(world, "completions", COMPLETION | body))["load"] == 500


def test_a_stop_string_ends_the_decoding(world: World) -> None:
    world.engine.seconds_per_token = 0.01
    response = post(world, "completions", COMPLETION | {"max_tokens": 50, "stop": " alpha"})
    assert response.json()["choices"][0]["text"] == "I am"
    assert durations(response)["decode"] >= 90


def test_a_failed_answer_claims_no_timing(world: World) -> None:
    world.engine.error_after = (0, ColdLoadTimeout("Too late."))
    response = post(world, "completions", COMPLETION)
    assert response.status_code == 504
    assert "server-timing" not in response.headers


def test_the_log_line_has_the_same_milliseconds(world: World) -> None:
    world.engine.tier, world.engine.load_seconds = "host", lambda request: 0.25
    with structlog.testing.capture_logs() as lines:
        post(world, "completions", COMPLETION)
    line = next(one for one in lines if one["event"] == "request")
    assert line["tier"] == "host"
    assert (line["load_ms"], round(line["queue_ms"])) == (250, 2)
    assert {"prefill_ms", "decode_ms"} <= line.keys()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_the_document_names_the_headers(world: World, path: str) -> None:
    answer = world.app().openapi()["paths"][path]["post"]["responses"]["200"]
    assert {"x-adapter-tier", "server-timing"} <= answer["headers"].keys()
