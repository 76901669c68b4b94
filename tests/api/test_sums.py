"""`adapters` of a request: a weighted sum in place of one adapter."""

import json
import math
from typing import Any

import httpx
import pytest

from tests.api.conftest import World, run
from tests.api.test_fields import BOTH, ROUTES, post, refused
from tests.fakes import FakeRegistry, adapter_ref

ALPHA, BETA = adapter_ref("alpha", 2, is_summable=True), adapter_ref("beta", 7, is_summable=True)


@pytest.fixture
def world() -> World:
    return World(registry=FakeRegistry(ALPHA, BETA, adapter_ref("dora", 9)))


def entry(name: str, weight: float | None = None) -> dict[str, Any]:
    return {"name": name} | ({} if weight is None else {"weight": weight})


@BOTH
def test_a_sum_reaches_the_engine_and_is_given_back(world: World, route: str) -> None:
    response = post(world, route, adapters=[entry("beta", -0.5), entry("tiny:alpha@2")])
    assert response.status_code == 200
    adapter = world.engine.submitted[0].adapter
    assert adapter is not None
    assert [(part.ref, part.weight) for part in adapter.parts] == [(ALPHA, 1.0), (BETA, -0.5)]
    assert sorted(ref.name for ref in world.registry.released) == ["alpha", "beta"]


@BOTH
def test_the_answer_tells_parts_and_weights(world: World, route: str) -> None:
    response = post(world, route, adapters=[entry("alpha", 0.5), entry("beta", -2)])
    headers = response.headers
    assert headers["x-adapter-version"] == "alpha@2;weight=0.5, beta@7;weight=-2.0"
    assert headers["x-adapter-digest"] == (
        f"sha256:{ALPHA.digest};weight=0.5, sha256:{BETA.digest};weight=-2.0"
    )
    body = response.json()
    assert body["model"] == "tiny"
    other = post(world, route, adapters=[entry("alpha", 0.5), entry("beta", -3)]).json()
    base = post(world, route).json()
    assert len({one["system_fingerprint"] for one in (body, other, base)}) == 3


@BOTH
def test_a_stream_gives_back_every_part(world: World, route: str) -> None:
    async def ask() -> str:
        body = {**ROUTES[route], "adapters": [entry("alpha"), entry("beta")], "stream": True}
        async with world.client() as client:
            return (await client.post(route, json=body)).text

    assert "[DONE]" in run(ask())
    assert sorted(ref.name for ref in world.registry.released) == ["alpha", "beta"]


def test_a_failed_sequence_gives_back_every_part(world: World) -> None:
    world.engine.submit_error = RuntimeError("broken")
    response = post(world, "/v1/completions", adapters=[entry("alpha"), entry("beta")])
    assert response.status_code == 500
    assert sorted(ref.name for ref in world.registry.released) == ["alpha", "beta"]


def test_a_single_adapter_of_weight_one_is_reported_as_itself(world: World) -> None:
    response = post(world, "/v1/completions", adapters=[entry("alpha", 1)])
    assert response.headers["x-adapter-version"] == "alpha@2"
    assert world.engine.submitted[0].adapter == ALPHA


@BOTH
@pytest.mark.parametrize(
    ("adapters", "param"),
    [
        ([], "adapters"),
        ([entry("alpha")] * 9, "adapters"),
        ("alpha", "adapters"),
        (["alpha"], "adapters[0]"),
        ([{"weight": 1}], "adapters[0].name"),
        ([entry("alpha", 100.5)], "adapters[0].weight"),
        ([entry("alpha", -1e9)], "adapters[0].weight"),
        ([{"name": "alpha", "weight": "1"}], "adapters[0].weight"),
        ([{"name": "alpha", "weight": True}], "adapters[0].weight"),
        ([{"name": "alpha", "scale": 2}], "adapters.0.scale"),
        ([entry("alpha"), entry("dora")], "adapters"),
    ],
)
def test_what_is_no_sum_is_refused(world: World, route: str, adapters: Any, param: str) -> None:
    refused(post(world, route, adapters=adapters), param)
    assert world.engine.submitted == []
    assert world.registry.released == world.registry.acquired


@BOTH
@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_weights_are_numbers(world: World, route: str, weight: float) -> None:
    async def ask() -> httpx.Response:
        body = json.dumps({**ROUTES[route], "adapters": [entry("alpha", weight)]})
        async with world.client() as client:
            headers = {"Content-Type": "application/json"}
            return await client.post(route, content=body, headers=headers)

    refused(run(ask()), "adapters[0].weight")


@BOTH
def test_another_model_beside_adapters_is_refused(world: World, route: str) -> None:
    message = refused(post(world, route, model="alpha", adapters=[entry("beta")]), "adapters")
    assert "'tiny'" in message


@BOTH
def test_an_unknown_part_is_a_404_that_names_it(world: World, route: str) -> None:
    response = post(world, route, adapters=[entry("alpha"), entry("beta@8")])
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("adapters", "model_not_found")
    assert "'beta@8'" in error["message"]
    assert world.registry.released == world.registry.acquired
