"""Keys and tenants over HTTP: made, listed, revoked, by whom it may be and nobody else."""

import time
from typing import Any

import httpx
import pytest

from service.handlers import keys as use_cases
from service.handlers.access import Access
from service.handlers.audit import AuditLog
from service.tenancy import Role
from tests.api.conftest import World, run
from tests.api.test_auth import ask, new_key


@pytest.fixture
def world() -> World:
    world = World(settings={"api_key": ("op",)})
    assert ask(world, "POST", "/v1/tenants", "op", json={"name": "team-a"}).status_code == 201
    return world


def make(world: World, key: str = "op", **body: Any) -> httpx.Response:
    return ask(world, "POST", "/v1/keys", key, json={"role": "use", **body})


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def opens(world: World, key: str) -> bool:
    return ask(world, "GET", "/v1/models", key).status_code == 200


def test_a_secret_is_shown_once_and_opens_until_it_is_revoked(world: World) -> None:
    made = make(world, tenant="team-a", label="ci", min_priority=3)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    secret = key.pop("secret")
    assert secret.startswith(f"rk_{key['id']}_")
    assert secret.endswith(key["ending"])
    assert (key["tenant"], key["role"], key["label"]) == ("team-a", "use", "ci")
    assert (key["min_priority"], key["expires_at"], key["expired"]) == (3, None, False)
    assert opens(world, secret)

    listed = ask(world, "GET", "/v1/keys?tenant=team-a", "op")
    assert listed.json()["data"] == [key]
    assert secret not in listed.text
    assert secret not in str(world.logs._logs), "only its hash is kept"

    assert ask(world, "DELETE", f"/v1/keys/{key['id']}", "op").json()["deleted"]
    revoked, unknown = (ask(world, "GET", "/v1/models", sent) for sent in (secret, "nonsense"))
    assert revoked.status_code == unknown.status_code == 401
    assert revoked.content == unknown.content
    assert code(ask(world, "DELETE", f"/v1/keys/{key['id']}", "op")) == (404, "key_not_found")
    assert ask(world, "GET", "/v1/keys?tenant=team-a", "op").json()["data"] == []


def test_a_key_expires(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make(world, expires_in_s=100).json()
    other = make(world, expires_at=int(time.time()) + 5000).json()
    now = time.time()
    monkeypatch.setattr("service.api.auth.time.time", lambda: now + 101)
    assert not opens(world, one["secret"])
    assert opens(world, other["secret"])
    gone = make(world, expires_at=1)
    assert (gone.status_code, gone.json()["error"]["param"]) == (400, "expires_at")
    assert make(world, expires_in_s=1, expires_at=10**10).status_code == 400


def test_everything_survives_a_restart(world: World) -> None:
    kept, revoked = make(world, tenant="team-a").json(), make(world).json()
    ask(world, "DELETE", f"/v1/keys/{revoked['id']}", "op")
    again = World(settings={"api_key": ("op",)}, logs=world.logs)
    assert not opens(again, kept["secret"])
    run(again.access.start())
    assert opens(again, kept["secret"])
    assert not opens(again, revoked["secret"])
    assert ask(again, "GET", "/v1/tenants/team-a", "op").status_code == 200


def test_an_admin_has_its_own_tenants_keys_only(world: World) -> None:
    ask(world, "POST", "/v1/tenants", "op", json={"name": "team-b"})
    admin = make(world, tenant="team-a", role="admin", min_priority=5).json()["secret"]
    mine = make(world, admin, role="publish")
    assert (mine.json()["tenant"], mine.json()["min_priority"]) == ("team-a", 5)
    assert code(make(world, admin, min_priority=4)) == (403, "permission_denied")
    theirs = make(world, tenant="team-b").json()
    for tenant in ("team-b", "default", "nobody"):
        assert code(make(world, admin, tenant=tenant)) == (403, "permission_denied")
        listed = ask(world, "GET", f"/v1/keys?tenant={tenant}", admin)
        assert code(listed) == (403, "permission_denied")
    hidden = ask(world, "DELETE", f"/v1/keys/{theirs['id']}", admin)
    unknown = ask(world, "DELETE", f"/v1/keys/{'0' * 16}", admin)
    assert code(hidden) == code(unknown) == (404, "key_not_found")
    assert hidden.text.replace(theirs["id"], "0" * 16) == unknown.text
    assert len(ask(world, "GET", "/v1/keys", admin).json()["data"]) == 2
    assert ask(world, "DELETE", f"/v1/keys/{mine.json()['id']}", admin).status_code == 200


@pytest.mark.parametrize("role", [Role.USE, Role.PUBLISH])
def test_keys_need_an_admin(world: World, role: Role) -> None:
    key = new_key(world, "team-a", role)
    for method, path in (("POST", "/v1/keys"), ("GET", "/v1/keys"), ("DELETE", "/v1/keys/x")):
        fields = {"json": {"role": "use"}} if method == "POST" else {}
        assert code(ask(world, method, path, key, **fields)) == (403, "permission_denied")


def test_tenants_need_an_operator(world: World) -> None:
    for key in (new_key(world, "team-a", Role.ADMIN), new_key(world, "default", Role.PUBLISH)):
        for method, path, body in (
            ("POST", "/v1/tenants", {"name": "x"}),
            ("GET", "/v1/tenants", None),
            ("GET", "/v1/tenants/team-a", None),
            ("PATCH", "/v1/tenants/team-a", {"limits": None}),
            ("DELETE", "/v1/tenants/team-a", None),
        ):
            response = ask(world, method, path, key, json=body)
            assert code(response) == (403, "permission_denied")


def test_a_tenant_goes_with_its_keys_but_not_with_its_adapters(world: World) -> None:
    secret = make(world, tenant="team-a").json()["secret"]
    world.owners.owners.add("team-a")
    assert code(ask(world, "DELETE", "/v1/tenants/team-a", "op")) == (409, "name_conflict")
    assert opens(world, secret)
    world.owners.owners.clear()
    assert ask(world, "DELETE", "/v1/tenants/team-a", "op").json()["deleted"]
    assert not opens(world, secret)
    assert code(ask(world, "GET", "/v1/tenants/team-a", "op")) == (404, "tenant_not_found")
    assert code(make(world, tenant="team-a")) == (404, "tenant_not_found")
    again = ask(world, "POST", "/v1/tenants", "op", json={"name": "team-a"})
    assert code(again) == (409, "name_conflict"), "others may still share with it"
    assert "never given out again" in again.json()["error"]["message"]
    world.owners.former.add("team-x")
    left = ask(world, "POST", "/v1/tenants", "op", json={"name": "team-x"})
    assert code(left) == (409, "name_conflict"), "adapters of it could still come back"
    assert not opens(world, secret)
    assert code(ask(world, "DELETE", "/v1/tenants/default", "op")) == (409, "name_conflict")


def test_limits_are_kept(world: World) -> None:
    limits = {"requests_per_minute": 60, "max_adapters": 5}
    changed = ask(world, "PATCH", "/v1/tenants/team-a", "op", json={"limits": limits})
    assert {k: v for k, v in changed.json()["limits"].items() if v is not None} == limits
    again = Access.over(world.logs, AuditLog(world.logs), ("op",), world.owners)
    run(again.start())
    kept = again.book.limits_of("team-a")
    assert kept is not None
    assert (kept.requests_per_minute, kept.max_adapters) == (60, 5)
    assert ask(world, "GET", "/v1/tenants/team-a", "op").json() == changed.json()
    none = ask(world, "PATCH", "/v1/tenants/team-a", "op", json={"limits": None})
    assert none.json()["limits"] is None


def test_tenants_are_listed_in_pages(world: World) -> None:
    for name in ("team-c", "team-b"):
        ask(world, "POST", "/v1/tenants", "op", json={"name": name})
    first = ask(world, "GET", "/v1/tenants?limit=2", "op").json()
    assert [one["name"] for one in first["data"]] == ["default", "team-a"]
    assert first["has_more"]
    rest = ask(world, "GET", "/v1/tenants?limit=2&after=team-a", "op").json()
    assert [one["name"] for one in rest["data"]] == ["team-b", "team-c"]
    assert not rest["has_more"]


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "a" * 64, "a@1", "..", "ä", 5])
def test_what_is_no_tenants_name(world: World, name: object) -> None:
    response = ask(world, "POST", "/v1/tenants", "op", json={"name": name})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "name")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"role": "root"}, "role"),
        ({"label": "x" * 201}, "label"),
        ({"label": "two\nlines"}, "label"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": 10**12}, "expires_in_s"),
        ({"min_priority": 10**9}, "min_priority"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_a_wrong_key_body_names_its_field(world: World, body: dict, param: str) -> None:
    response = make(world, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_tenant_has_a_bounded_number_of_keys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases, "MAX_KEYS", 2)
    assert [make(world, tenant="team-a").status_code for _ in range(3)] == [201, 201, 507]
