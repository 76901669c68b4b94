"""`POST /v1/adapters/{name}/warm`: what is asked of the engine, and what is answered."""

import httpx
import pytest

from tests.api.conftest import World, run
from tests.api.test_fields import refused
from tests.fakes import adapter_ref


def warm(world: World, name: str = "alpha", **fields: object) -> httpx.Response:
    async def work() -> httpx.Response:
        async with world.client() as client:
            body = {"json": fields} if fields else {}
            return await client.post(f"/v1/adapters/{name}/warm", **body)

    response: httpx.Response = run(work())
    return response


def test_the_answer_says_what_is_where_since_how_long(world: World) -> None:
    body = warm(world).json()
    assert body.pop("milliseconds") >= 0
    assert body == {
        "object": "adapter.warmed",
        "name": "alpha",
        "version": 2,
        "digest": f"sha256:{adapter_ref('alpha', 2).digest}",
        "tier": "host",
    }
    world.assert_all_given_back()


def test_the_engine_is_asked_for_what_the_request_says(world: World) -> None:
    assert warm(world, "alpha@1", tier="device", timeout_ms=1500).json()["tier"] == "device"
    asked = world.engine.submitted[0]
    assert (asked.adapter, asked.load_into) == (adapter_ref("alpha", 1), "device")
    assert (asked.max_cold_s, asked.prompt_ids) == (1.5, ())


def test_a_load_that_takes_too_long_is_a_504_with_a_hint(world: World) -> None:
    world.engine.cold.add(adapter_ref("alpha", 2).digest)
    response = warm(world, timeout_ms=5)
    assert (response.status_code, response.headers["retry-after"]) == (504, "3")
    assert response.json()["error"]["code"] == "cold_load_timeout"
    world.assert_all_given_back()


def test_an_unknown_adapter_is_a_404(world: World) -> None:
    assert warm(world, "nobody").status_code == 404
    assert not world.engine.submitted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tier": "disk"}, "tier"),
        ({"timeout_ms": -1}, "timeout_ms"),
        ({"timeout_ms": 1.5}, "timeout_ms"),
        ({"timeout_ms": 10**9}, "timeout_ms"),
        ({"tire": "host"}, "tire"),
    ],
)
def test_wrong_values_name_their_field(world: World, fields: dict, param: str) -> None:
    refused(warm(world, **fields), param)
