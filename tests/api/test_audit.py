"""The audit log over HTTP: who did it, to whom it is shown."""

from datetime import UTC, datetime, timedelta

import pytest

from service.tenancy import Role
from tests.api.conftest import World
from tests.api.test_auth import ask, new_key


@pytest.fixture
def world() -> World:
    world = World(settings={"api_key": ("op",)})
    for name in ("red", "blue"):
        assert ask(world, "POST", "/v1/tenants", "op", json={"name": name}).status_code == 201
    return world


def test_what_a_key_of_the_settings_does(world: World) -> None:
    body = ask(world, "GET", "/v1/audit", "op").json()
    assert (body["object"], body["has_more"]) == ("list", False)
    first, _ = body["data"]
    assert first["actor"] == {"tenant": "default", "key": "settings"}
    assert (first["action"], first["tenant"], first["target"]) == ("tenant.create", "red", "red")
    assert (first["before"], first["after"]) == ({}, {"limits": None})


def test_the_request_id_leads_to_the_access_log(world: World) -> None:
    key = new_key(world, "red", Role.ADMIN)
    made = ask(world, "POST", "/v1/keys", key, json={"role": "use"})
    (record,) = (
        one
        for one in ask(world, "GET", "/v1/audit?tenant=red", "op").json()["data"]
        if one["action"] == "key.create"
    )
    assert record["request_id"] == made.headers["x-request-id"]
    assert record["actor"] == {"tenant": "red", "key": key.split("_")[1]}


def test_an_admin_sees_its_own_tenant_and_nobody_else_sees_any(world: World) -> None:
    admin = new_key(world, "red", Role.ADMIN)
    found = ask(world, "GET", "/v1/audit", admin).json()["data"]
    assert {one["tenant"] for one in found} == {"red"}
    assert ask(world, "GET", "/v1/audit?tenant=blue", admin).status_code == 403
    for role in (Role.USE, Role.PUBLISH):
        assert ask(world, "GET", "/v1/audit", new_key(world, "red", role)).status_code == 403
    assert ask(world, "GET", "/v1/audit").status_code == 401


def test_pages_and_days(world: World) -> None:
    first = ask(world, "GET", "/v1/audit?limit=1", "op").json()
    assert (len(first["data"]), first["has_more"]) == (1, True)
    after = first["data"][0]["id"]
    rest = ask(world, "GET", f"/v1/audit?after={after}", "op").json()
    assert [one["target"] for one in rest["data"]] == ["blue"]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    past = ask(world, "GET", f"/v1/audit?from={yesterday}&to={yesterday}", "op").json()
    assert past == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize(
    "query", ["from=nonsense", "from=2026-03-05&to=2026-03-04", "after=x", "limit=0", "limit=1001"]
)
def test_a_query_that_means_nothing_is_a_400(world: World, query: str) -> None:
    answer = ask(world, "GET", f"/v1/audit?{query}", "op")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("from", "after", "limit")
