"""What a tenant keeps to itself does not exist for another, by every route, in every answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from service.adapters.files import CONFIG
from service.adapters.verdict import Verdict
from service.app import create_app
from service.tenancy import Role
from tests.adapters.house import House
from tests.api.conftest import World
from tests.fuzz.app import LIMITS, AgreeingVerifier, HashCompiler

HIDDEN, UNKNOWN = "secret", "nobody"
"""Of one length, so that answers can be compared byte by byte once the name is replaced."""
MESSAGES = [{"role": "user", "content": "Hi"}]

Ask = Callable[["Town", str, str], httpx.Response]
"""(town, key, name as `model` would say it)"""


class CountingVerifier(AgreeingVerifier):
    def __init__(self) -> None:
        self.names: list[str] = []

    async def verify(self, ref: Any, folder: Path, work: Path) -> Verdict:
        self.names.append(ref.name)
        return await super().verify(ref, folder, work)


class Town:
    """Two tenants, an operator, and the whole application over a real store."""

    def __init__(self, root: Path) -> None:
        self.world = World(settings={"api_key": ("op",)})
        self.verifier = CountingVerifier()
        self.house = House(
            root,
            self.world.base,
            LIMITS,
            verifier=self.verifier,
            compiler=HashCompiler(),
            deleted_retention_s=3600,
        )
        self.world.registry = self.house.service.visible
        self.world.names = self.house.registry
        services = self.world.app().state.services
        self.app = create_app(replace(services, adapters=self.house.service))
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def key(self, tenant: str, role: Role = Role.ADMIN) -> str:
        return self.world.new_key(tenant, role)

    def ask(self, method: str, path: str, key: str, **fields: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", "x-request-id": "same"}
        return self.client.request(method, path, headers=headers, **fields)

    def publish(self, key: str, name: str, content: int, **params: str) -> Any:
        files = {
            CONFIG: b'{"peft_type": "LORA"}',
            "adapter_model.safetensors": bytes([content]) * 16,
        }
        return self.ask(
            "POST",
            "/v1/adapters",
            key,
            params=params,
            data={"name": name},
            files=[("files", one) for one in files.items()],
        )

    def share(self, key: str, name: str, visibility: Any) -> httpx.Response:
        return self.ask("PATCH", f"/v1/adapters/{name}", key, json={"visibility": visibility})

    def complete(self, key: str, model: str) -> httpx.Response:
        body = {"model": model, "prompt": "Hi", "max_tokens": 1}
        return self.ask("POST", "/v1/completions", key, json=body)


@contextmanager
def founded(root: Path) -> Iterator[Town]:
    town = Town(root)
    with town.client as client:
        client.portal.call(town.house.service.start)
        for tenant in ("team-a", "team-b"):
            assert town.ask("POST", "/v1/tenants", "op", json={"name": tenant}).status_code == 201
        yield town
        client.portal.call(town.house.service.close)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with founded(tmp_path / "store") as town:
        yield town


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """With a private adapter of team-b; for who changes nothing."""
    with founded(tmp_path_factory.mktemp("town") / "store") as town:
        settle(town)
        yield town


@pytest.fixture
def a(town: Town) -> str:
    return town.key("team-a")


@pytest.fixture
def b(town: Town) -> str:
    return settle(town)


def settle(town: Town) -> str:
    """The admin's key of a tenant with one private adapter in two versions."""
    key = town.key("team-b")
    for content in (1, 2):
        assert town.publish(key, HIDDEN, content).status_code == 201
    moved = town.ask(
        "PATCH", f"/v1/adapters/{HIDDEN}", key, json={"aliases": {"stable": 1}, "current": 1}
    )
    assert moved.status_code == 200
    return key


def by_model(path: str, **body: Any) -> Ask:
    def ask(town: Town, key: str, name: str) -> httpx.Response:
        return town.ask("POST", path, key, json={"model": name, "max_tokens": 1, **body})

    return ask


def by_sum(path: str, **body: Any) -> Ask:
    def ask(town: Town, key: str, name: str) -> httpx.Response:
        fields = {"adapters": [{"name": name, "weight": 0.5}], **body}
        return town.ask("POST", path, key, json={"model": "tiny", "max_tokens": 1, **fields})

    return ask


def by_fallback(path: str, **body: Any) -> Ask:
    def ask(town: Town, key: str, name: str) -> httpx.Response:
        fields = {"max_cold_ms": 1, "cold_fallback": name, **body}
        return town.ask("POST", path, key, json={"model": "tiny", "max_tokens": 1, **fields})

    return ask


def by_path(method: str, path: str, **fields: Any) -> Ask:
    """`tenant/name` is said by the query here."""

    def ask(town: Town, key: str, name: str) -> httpx.Response:
        tenant, _, bare = name.rpartition("/")
        params = {"tenant": tenant} if tenant else {}
        return town.ask(method, path.format(name=bare), key, params=params, **fields)

    return ask


def by_model_path(town: Town, key: str, name: str) -> httpx.Response:
    return town.ask("GET", f"/v1/models/{name}", key)


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
NAMED: dict[tuple[str, str], list[Ask]] = {
    ("post", COMPLETIONS): [
        by_model(COMPLETIONS, prompt="Hi"),
        by_model(COMPLETIONS, prompt="Hi", stream=True),
        by_sum(COMPLETIONS, prompt="Hi"),
        by_fallback(COMPLETIONS, prompt="Hi"),
    ],
    ("post", CHAT): [
        by_model(CHAT, messages=MESSAGES),
        by_sum(CHAT, messages=MESSAGES),
        by_fallback(CHAT, messages=MESSAGES),
    ],
    ("get", "/v1/models/{model}"): [by_model_path],
    ("get", "/v1/adapters/{name}"): [by_path("GET", "/v1/adapters/{name}")],
    ("patch", "/v1/adapters/{name}"): [
        by_path("PATCH", "/v1/adapters/{name}", json={"current": 1}),
        by_path("PATCH", "/v1/adapters/{name}", json={"visibility": "public"}),
        by_path("PATCH", "/v1/adapters/{name}", json={"aliases": {"stable": None}}),
    ],
    ("delete", "/v1/adapters/{name}"): [by_path("DELETE", "/v1/adapters/{name}")],
    ("post", "/v1/adapters/{name}/rollback"): [by_path("POST", "/v1/adapters/{name}/rollback")],
    ("post", "/v1/adapters/{name}/restore"): [by_path("POST", "/v1/adapters/{name}/restore")],
    ("post", "/v1/adapters/{name}/verify"): [by_path("POST", "/v1/adapters/{name}/verify")],
    ("post", "/v1/adapters/{name}/warm"): [by_path("POST", "/v1/adapters/{name}/warm")],
}
"""How each route is asked for an adapter. A route that is neither here nor below fails a test."""

NOT_NAMED = {
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/version"),
    ("get", "/v1/models"),
    ("get", "/v1/adapters"),
    ("post", "/v1/adapters"),
    ("get", "/v1/residency"),
}
"""They name no adapter of others; what they list or say is tested here by hand."""
OPERATORS = {
    ("get", "/metrics"),
    ("post", "/v1/adapters:gc"),
    ("post", "/v1/tenants"),
    ("get", "/v1/tenants"),
    ("get", "/v1/tenants/{tenant}"),
    ("patch", "/v1/tenants/{tenant}"),
    ("delete", "/v1/tenants/{tenant}"),
}
"""Closed to everybody else."""
OWN_TENANT = {
    ("post", "/v1/keys"),
    ("get", "/v1/keys"),
    ("delete", "/v1/keys/{key_id}"),
    ("get", "/v1/audit"),
    ("get", "/v1/usage"),
    ("get", "/v1/imports"),
    ("get", "/v1/imports/{import_id}"),
    ("delete", "/v1/imports/{import_id}"),
}
"""About the caller's own tenant; tested where they are."""
ASKS = [(route, ask) for route, asks in NAMED.items() for ask in asks]
IDS = [f"{method} {path} {i}" for i, ((method, path), _) in enumerate(ASKS)]


def test_every_route_is_covered() -> None:
    document = World().app().openapi()
    routes = {(method, path) for path, item in document["paths"].items() for method in item}
    known = {*NAMED, *NOT_NAMED, *OPERATORS, *OWN_TENANT}
    assert routes - known == set(), "say above how the route is asked for an adapter, or why not"
    assert {*NAMED} <= routes


@pytest.mark.parametrize("form", ["{}", "{}@1", "{}@stable", "team-b/{}", "team-b/{}@1"])
@pytest.mark.parametrize(("route", "ask"), ASKS, ids=IDS)
def test_a_private_adapter_is_an_unknown_one(
    untouched: Town, route: tuple[str, str], ask: Ask, form: str
) -> None:
    town, name = untouched, f"team-b/{HIDDEN}"
    before = town.house.store.history(name).num_operations
    for key in (town.key("team-a"), town.key("default", Role.PUBLISH)):
        hidden, unknown = (ask(town, key, form.format(name)) for name in (HIDDEN, UNKNOWN))
        assert hidden.status_code == unknown.status_code == 404, hidden.text
        assert hidden.content.replace(HIDDEN.encode(), UNKNOWN.encode()) == unknown.content
        assert headers_of(hidden) == headers_of(unknown)
    assert town.house.store.history(name).num_operations == before


@pytest.mark.parametrize(("route", "ask"), ASKS, ids=IDS)
def test_its_owner_and_an_operator_reach_it(
    town: Town, b: str, route: tuple[str, str], ask: Ask
) -> None:
    """Without this, the test above would pass on a server that knows no names at all."""
    for key, name in ((b, HIDDEN), (b, f"team-b/{HIDDEN}"), ("op", f"team-b/{HIDDEN}")):
        response = ask(town, key, name)
        assert response.status_code in (200, 409, 422), response.text
        if route[0] == "delete":
            town.publish(b, HIDDEN, 1)


@pytest.mark.parametrize("route", sorted(OPERATORS))
def test_what_is_for_operators_is_closed_to_others(untouched: Town, route: tuple[str, str]) -> None:
    method, path = route
    town = untouched
    for key in (town.key("team-a"), town.key("default", Role.PUBLISH)):
        response = town.ask(method.upper(), path.format(tenant="team-b"), key, json={})
        assert response.status_code in (400, 403), response.text
        if method != "post" and method != "patch":
            assert response.status_code == 403


def test_lists_and_counts_are_those_of_a_server_without_the_others(
    town: Town, a: str, tmp_path: Path
) -> None:
    paths = [
        "/v1/models",
        "/v1/adapters",
        "/v1/adapters?tenant=team-b",
        "/v1/adapters?limit=1",
        "/v1/adapters?deleted=true",
        "/v1/adapters?deleted=true&tenant=team-b",
        "/v1/residency",
    ]
    town.publish(a, "mine", 9)
    before = [town.ask("GET", path, a) for path in paths]
    key = town.key("team-b")
    for name in (HIDDEN, "aaa", "zzz"):
        town.publish(key, name, 1)
    town.ask("DELETE", "/v1/adapters/zzz", key)
    after = [town.ask("GET", path, a) for path in paths]
    assert [one.content for one in after] == [one.content for one in before]
    assert [headers_of(one) for one in after] == [headers_of(one) for one in before]
    assert len(town.ask("GET", "/v1/adapters", key).json()["data"]) == 2
    assert [one["id"] for one in town.ask("GET", "/v1/models", "op").json()["data"]] == [
        "tiny",
        "team-a/mine",
        "team-b/aaa",
        f"team-b/{HIDDEN}",
    ]


def test_a_name_that_others_have_is_free(town: Town, a: str, b: str) -> None:
    assert town.publish(a, HIDDEN, 7).json()["version"] == 1
    assert town.publish("op", HIDDEN, 8).json()["version"] == 1
    for key, tenant in ((a, "team-a"), (b, "team-b"), ("op", "default")):
        view = town.ask("GET", f"/v1/adapters/{HIDDEN}", key).json()
        assert (view["name"], view["tenant"]) == (HIDDEN, tenant)
        assert town.complete(key, HIDDEN).status_code == 200
    names = [one.adapter.name for one in town.world.engine.submitted]
    assert names == [f"team-a/{HIDDEN}", f"team-b/{HIDDEN}", HIDDEN]
    assert town.ask("DELETE", f"/v1/adapters/{HIDDEN}", a).status_code == 200
    assert town.complete(b, HIDDEN).status_code == 200


def test_that_others_have_a_content_is_not_told(town: Town, a: str, b: str) -> None:
    """Content 1 is team-b's, content 5 nobody's: the answers differ in what is the upload's."""
    known, new = town.publish(a, "known", 1), town.publish(a, "fresh", 5)
    assert known.status_code == new.status_code == 201
    assert known.json()["created"]
    assert known.json()["check"] == new.json()["check"] is not None
    assert headers_of(known) == headers_of(new)
    same = {"name", "digest", "created_at"}
    assert {k: v for k, v in known.json().items() if k not in same} == {
        k: v for k, v in new.json().items() if k not in same
    }
    assert town.verifier.names[-2:] == ["team-a/known", "team-a/fresh"]
    assert len(town.house.store.stored_objects()) == 3, "but its bytes are stored once"
    again = town.publish(a, "copy", 1)
    assert (again.status_code, len(town.verifier.names)) == (201, 4), "its own is not checked again"
    version = town.ask("GET", "/v1/adapters/known", a).json()["current"]
    assert version["tier"] is None, "where it lies depends on the others"


def test_the_content_of_others_outlives_a_delete(town: Town, a: str, b: str) -> None:
    town.publish(a, "same", 1)
    assert town.ask("DELETE", "/v1/adapters/same", a).status_code == 200
    town.ask("POST", "/v1/adapters:gc", "op")
    assert town.ask("POST", f"/v1/adapters/{HIDDEN}@1/verify", b).status_code == 200


def test_sharing_opens_it_for_use_and_nothing_else(town: Town, a: str, b: str) -> None:
    shared = town.share(b, HIDDEN, {"tenants": ["team-a", "team-c"]})
    assert shared.json()["visibility"] == {"tenants": ["team-a", "team-c"]}
    name = f"team-b/{HIDDEN}"
    answer = town.complete(a, f"{name}@stable")
    assert answer.headers["x-adapter-version"] == f"{name}@1"
    assert town.complete(a, HIDDEN).status_code == 404, "not by its bare name"
    assert name in town.ask("GET", "/v1/models", a).text
    assert town.ask("GET", f"/v1/models/{name}", a).json()["id"] == name
    listed = town.ask("GET", "/v1/adapters?tenant=team-b", a).json()["data"]
    assert [(one["name"], one["visibility"]) for one in listed] == [(HIDDEN, None)]
    for method, path, body in (
        ("PATCH", "", {"visibility": "public"}),
        ("DELETE", "", None),
        ("POST", "/rollback", None),
        ("POST", "/restore", None),
        ("POST", "/verify", None),
    ):
        path = f"/v1/adapters/{HIDDEN}{path}?tenant=team-b"
        refused = town.ask(method, path, a, **({} if body is None else {"json": body}))
        assert refused.status_code == 403, (path, refused.text)
    other = town.key("default", Role.PUBLISH)
    assert town.complete(other, name).status_code == 404
    town.share(b, HIDDEN, "public")
    assert town.complete(other, name).status_code == 200
    town.share(b, HIDDEN, "private")
    assert town.complete(other, name).status_code == 404
    assert town.complete(a, name).status_code == 404


def test_the_operators_own_are_everybodys_until_they_are_not(town: Town, a: str) -> None:
    assert town.publish("op", "common", 3).status_code == 201
    assert town.ask("GET", "/v1/adapters/common", "op").json()["visibility"] == "public"
    assert town.complete(a, "common").status_code == 200
    assert town.ask("DELETE", "/v1/adapters/common", a).status_code == 403
    town.publish(a, "common", 4)
    for model, answered in (("common", "team-a/common"), ("default/common", "common")):
        town.complete(a, model)
        assert town.world.engine.submitted[-1].adapter.name == answered
    ids = [one["id"] for one in town.ask("GET", "/v1/models", a).json()["data"]]
    assert ids == ["tiny", "common", "default/common"]
    town.share("op", "common", "private")
    assert town.complete(a, "default/common").status_code == 404
    assert town.complete(a, "common").status_code == 200, "its own"
    town.ask("DELETE", "/v1/adapters/common", "op")
    assert town.ask("POST", "/v1/adapters/common/restore", "op").status_code == 200
    assert town.complete(a, "default/common").status_code == 404, "as private as before"


def test_an_upload_says_who_sees_it_in_the_record_that_makes_it(town: Town, a: str) -> None:
    def upload(content: int, visibility: str) -> httpx.Response:
        return town.publish("op", "staged", content, visibility=visibility)

    assert upload(3, "private").status_code == 201
    assert town.house.store.history("staged").num_operations == 1, "it was never public"
    assert town.complete(a, "staged").status_code == 404
    assert town.publish("op", "staged", 4).status_code == 201
    assert town.complete(a, "staged").status_code == 404, "an upload that says nothing"
    for content in (4, 3):  # as it is, and back to the older version
        assert upload(content, "public").status_code in (200, 201)
        assert town.complete(a, "staged").status_code == 200
        assert upload(content, "private").status_code == 200
        assert town.complete(a, "staged").status_code == 404


def test_visibility_moves_with_the_pointers_or_not_at_all(town: Town, a: str, b: str) -> None:
    path, name = f"/v1/adapters/{HIDDEN}", f"team-b/{HIDDEN}"
    wrong = {"visibility": "public", "aliases": {"stable": 77}}
    assert town.ask("PATCH", path, b, json=wrong).status_code == 422
    assert town.complete(a, name).status_code == 404
    revision = town.house.store.history(name).num_operations
    both = {"visibility": "public", "aliases": {"stable": 2}, "current": 2}
    assert town.ask("PATCH", path, b, json=both).status_code == 200
    assert town.house.store.history(name).num_operations == revision + 1, "one record"
    assert town.complete(a, f"{name}@stable").headers["x-adapter-version"] == f"{name}@2"
    again = Town(town.house.root.parent / "other")
    again.house.store._journal = town.house.store._journal
    assert again.house.store._journal.replay(name).visibility == ("*",)


def test_uploads_are_the_callers_or_an_operators_choice(town: Town, a: str) -> None:
    assert town.publish("op", "given", 6, tenant="team-a").status_code == 201
    assert town.ask("GET", "/v1/adapters/given", a).json()["tenant"] == "team-a"
    for tenant in ("team-b", "nobody", "default"):
        assert town.publish(a, "x", 6, tenant=tenant).status_code == 403
    assert town.publish("op", "x", 6, tenant="nobody").status_code == 404
    assert town.publish(a, "team-b/x", 6).status_code == 400
    assert town.publish(a, "tiny", 6).status_code == 409
    assert town.publish(town.key("team-a", Role.USE), "x", 6).status_code == 403


@pytest.mark.parametrize(
    "visibility",
    [None, "all", [], {"tenants": []}, {"tenants": ["A"]}, {"tenants": ["*"]}, {"tenant": ["a"]}],
    ids=str,
)
def test_what_is_no_visibility(town: Town, b: str, visibility: Any) -> None:
    response = town.share(b, HIDDEN, visibility)
    assert response.status_code == (200 if visibility is None else 400)
    assert town.ask("GET", f"/v1/adapters/{HIDDEN}", b).json()["visibility"] == "private"


@pytest.mark.parametrize(
    "name", ["team-b//secret", "/secret", "team-b/", "default/team-b/secret", "team-b/secret/", "*"]
)
def test_no_other_spelling_reaches_it(untouched: Town, name: str) -> None:
    for key in (untouched.key("team-a"), untouched.key("team-b"), "op"):
        assert untouched.complete(key, name).status_code == 404


def headers_of(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "date"}
