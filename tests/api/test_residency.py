"""`GET /v1/residency`: what is where, page by page, and whose business it is."""

from typing import Any

import httpx
import pytest

from service.core import AdapterRef
from service.engine.activity import Activity, Use
from service.tenancy import Role
from tests.api.conftest import World, run
from tests.api.test_fields import refused


def ref(name: str, version: int = 1) -> AdapterRef:
    digest = f"{sum(map(ord, name)) * 10 + version:064x}"
    return AdapterRef(name, version, digest, compiled_bytes=2048, rank=8)


@pytest.fixture
def world() -> World:
    """`a` is on the device in its current version and on disk in the other; two tenants beside."""
    world = World(settings={"api_key": ("op",)})
    world.names.register("a", {1: ref("a", 1), 2: ref("a", 2)}, 2, {"stable": ((1, 1),)})
    for name in ("team-a/x", "team-b/y", "cold"):
        world.names.register(name, {1: ref(name)}, 1)
    place = {ref("team-a/x").digest: "host", ref("a", 2).digest: "device"}
    world.engine.resident = place | {ref("team-b/y").digest: "host"}
    world.places.on_disk = [ref("a", 1).digest, ref("a", 2).digest, "somebody else's"]
    world.places.held["team-a/x"] = {ref("team-a/x").digest}
    world.engine.shown = Activity(
        running={Use("default", "a", 2): 3, Use("team-a", "a", 2): 1, Use("team-a", "", 0): 1},
        waiting={Use("team-b", "team-a/x", 1): 5, Use("team-a", "team-a/x", 1): 2},
        cold={Use("team-a", "a", 1): 4},
    )
    return world


def get(world: World, key: str = "op", etag: str | None = None, **params: Any) -> httpx.Response:
    async def work() -> httpx.Response:
        async with world.client() as client:
            headers = {"Authorization": f"Bearer {key}"}
            headers |= {} if etag is None else {"If-None-Match": etag}
            return await client.get("/v1/residency", headers=headers, params=params)

    response: httpx.Response = run(work())
    return response


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()["data"]]


def test_an_operator_sees_what_is_where(world: World) -> None:
    body = get(world).json()
    assert [(one["id"], one["tier"]) for one in body["data"]] == [
        ("a@1", "disk"),
        ("a@2", "device"),
        ("team-a/x@1", "host"),
        ("team-b/y@1", "host"),
    ]
    assert body["data"][1] == {
        "object": "residency.adapter",
        "id": "a@2",
        "name": "a",
        "version": 2,
        "digest": f"sha256:{ref('a', 2).digest}",
        "models": ["a", "a@2"],
        "tier": "device",
        "running": 4,
        "waiting": 0,
        "pinned": False,
        "rank": 8,
        "bytes": 2048,
    }
    assert body["data"][0]["models"] == ["a@stable", "a@1"]
    assert (body["data"][2]["waiting"], body["data"][2]["pinned"]) == (7, True)
    assert (body["replica"], body["has_more"]) == ("replica-1", False)
    assert body["tiers"].keys() == {"device", "host", "disk"}
    assert body["tiers"]["device"] == {"adapters": 0, "bytes": 0, "budget_bytes": 0}
    assert body["max_device_adapters"] == 0


def test_a_tenant_sees_its_own_and_what_it_asks_of_them_itself(world: World) -> None:
    response = get(world, world.new_key("team-a", Role.USE))
    assert ids(response) == ["team-a/x@1"]
    body = response.json()
    assert body["data"][0]["waiting"] == 2, "not what team-b asks of it"
    assert body["queue"] == {"running": 2, "waiting": 2, "cold": 4}
    of_all = ("replica", "generation", "tiers", "max_device_adapters")
    assert [body[name] for name in of_all] == [None] * 4
    assert "etag" not in response.headers


def test_who_is_of_the_operators_tenant_but_no_operator_sees_its_own_alone(world: World) -> None:
    assert ids(get(world, world.new_key("default", Role.PUBLISH))) == ["a@1", "a@2"]


def test_only_the_tiers_that_are_asked_for(world: World) -> None:
    assert ids(get(world, tier="device")) == ["a@2"]
    assert ids(get(world, tier=["device", "host"])) == ["a@2", "team-a/x@1", "team-b/y@1"]
    assert ids(get(world, tier="disk")) == ["a@1"], "whose fastest copy is there"


def test_pages_follow_each_other_without_a_gap(world: World) -> None:
    found, after = [], None
    for _ in range(4):
        page = get(world, limit=1, **({"after": after} if after else {}))
        found += ids(page)
        after = found[-1]
        assert page.json()["has_more"] == (len(found) < 4)
    assert found == ids(get(world))
    assert ids(get(world, after=found[-1])) == []
    assert ids(get(world, after="a@10")) == ["team-a/x@1", "team-b/y@1"]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"tier": "store"}, "tier[0]"),
        ({"tier": ["host"] * 4}, "tier"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"after": "a"}, "after"),
        ({"after": "@1"}, "after"),
        ({"after": "a@-1"}, "after"),
        ({"after": "x" * 600}, "after"),
    ],
)
def test_wrong_values_name_their_field(world: World, params: dict[str, Any], param: str) -> None:
    refused(get(world, **params), param)


def test_nothing_is_sent_again_until_something_is_elsewhere(world: World) -> None:
    first = get(world)
    etag = first.headers["etag"]
    assert etag == f'W/"{first.json()["generation"]}"'
    world.engine.shown = Activity()
    again = get(world, etag=f'"other", {etag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    for change in (
        lambda: world.engine.resident.update({ref("cold").digest: "host"}),
        lambda: world.names.register("a", {2: ref("a", 2)}, 2, {"canary": ((2, 1),)}),
        lambda: world.names.unregister("team-b/y"),
        lambda: setattr(world.places, "revision", 7),
    ):
        change()
        moved = get(world, etag=etag)
        assert moved.status_code == 200
        etag = moved.headers["etag"]
        assert get(world, etag=etag).status_code == 304


def test_an_etag_means_nothing_to_another_process_or_to_a_tenant(world: World) -> None:
    etag = get(world).headers["etag"]
    assert get(world, world.new_key("team-a", Role.USE), etag).status_code == 200
    other = World(settings={"api_key": ("op",)})
    other.names, other.engine, other.places = world.names, world.engine, world.places
    assert get(other, etag=etag).status_code == 200


def test_without_a_key_it_is_closed(world: World) -> None:
    assert get(world, "wrong").status_code == 401
