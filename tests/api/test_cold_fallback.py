"""`max_cold_ms` and `cold_fallback` over HTTP: the status is decided before the headers go out."""

import httpx
import pytest

from tests.api.conftest import World, run
from tests.api.test_fields import BOTH, ROUTES, refused
from tests.fakes import adapter_ref


@pytest.fixture
def cold_world(world: World) -> World:
    world.engine.cold.add(adapter_ref("beta", 7).digest)
    return world


def ask(world: World, route: str, **fields: object) -> httpx.Response:
    async def work() -> httpx.Response:
        async with world.client() as client:
            return await client.post(route, json={**ROUTES[route], "model": "beta", **fields})

    response: httpx.Response = run(work())
    return response


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_cold_adapter_is_a_504_with_a_hint(cold_world: World, route: str, stream: bool) -> None:
    response = ask(cold_world, route, max_cold_ms=5, stream=stream)
    assert (response.status_code, response.headers["retry-after"]) == (504, "3")
    assert response.json()["error"]["code"] == "cold_load_timeout"
    cold_world.assert_all_given_back()


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_says_that_another_model_gave_it(
    cold_world: World, route: str, stream: bool
) -> None:
    fallback = ask(cold_world, route, max_cold_ms=0, cold_fallback="alpha", stream=stream)
    own = ask(cold_world, route, model="alpha", max_cold_ms=0, stream=stream)
    assert fallback.status_code == own.status_code == 200
    assert fallback.headers["x-cold-fallback"] == "true"
    assert "x-cold-fallback" not in own.headers
    assert fallback.headers["x-adapter-version"] == own.headers["x-adapter-version"] == "alpha@2"
    if not stream:
        bodies = fallback.json(), own.json()
        assert {one["model"] for one in bodies} == {"alpha"}
        assert len({one["system_fingerprint"] for one in bodies}) == 1
        assert "I am" in fallback.text
    assert cold_world.engine.submitted[-1].adapter == adapter_ref("alpha", 2)


@BOTH
def test_the_base_may_answer_if_asked(cold_world: World, route: str) -> None:
    response = ask(cold_world, route, max_cold_ms=0, cold_fallback="tiny")
    assert response.json()["model"] == "tiny"
    assert "x-adapter-version" not in response.headers
    assert response.headers["x-cold-fallback"] == "true"
    assert response.json()["system_fingerprint"].count("_") == 1


@BOTH
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_cold_ms": -1}, "max_cold_ms"),
        ({"max_cold_ms": 0.5}, "max_cold_ms"),
        ({"max_cold_ms": 10**9}, "max_cold_ms"),
        ({"cold_fallback": "alpha"}, "cold_fallback"),
        ({"max_cold_ms": 1, "cold_fallback": "x" * 513}, "cold_fallback"),
    ],
)
def test_wrong_values_name_their_field(world: World, route: str, fields: dict, param: str) -> None:
    refused(ask(world, route, **fields), param)


@BOTH
def test_an_unknown_fallback_is_a_404_that_names_the_field(world: World, route: str) -> None:
    response = ask(world, route, max_cold_ms=0, cold_fallback="nobody")
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (404, "cold_fallback")
    world.assert_all_given_back()


@BOTH
def test_null_asks_for_nothing(world: World, route: str) -> None:
    assert ask(world, route, max_cold_ms=None, cold_fallback=None).status_code == 200
    assert world.engine.submitted[0].max_cold_s is None
