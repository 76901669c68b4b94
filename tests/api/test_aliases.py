"""PATCH, rollback and ETags over a real store; sticky keys over a fake one."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.adapters.house import House
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import make_base
from tests.api.conftest import World, run
from tests.api.test_adapters_upload import parts, serving
from tests.api.test_fields import BOTH, ROUTES, post, refused

URL = "/v1/adapters/a"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Path]]:
    base = make_base(tmp_path_factory.mktemp("base"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = [make_lora(base, tmp_path_factory.mktemp("lora"), seed=i) for i in (1, 2)]
    return base, folders


@pytest.fixture
def client(kit: tuple[Any, list[Path]], tmp_path: Path) -> Iterator[TestClient]:
    """With `a` in two versions."""
    base, folders = kit
    with serving(House(tmp_path / "store", base.description)) as client:
        for folder in folders:
            response = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
            assert response.status_code == 201
        assert response.headers["etag"] == client.get(URL).headers["etag"]
        yield client


def patch(client: TestClient, if_match: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if if_match is None else {"If-Match": if_match}
    return client.patch(URL, json=body, headers=headers)


def test_what_was_set_is_shown_until_it_is_removed(client: TestClient) -> None:
    aliases = {"stable": 1, "canary": {"1": 95, "2": 5}, "alone": {"2": 50}}
    response = patch(client, aliases=aliases, current=1)
    assert response.status_code == 200, response.text
    shown = response.json()
    assert shown["aliases"] == {"alone": 2, "canary": {"1": 95, "2": 5}, "stable": 1}
    assert shown["current"]["version"] == 1
    assert client.get(URL).json() == shown
    assert patch(client, aliases={"canary": None, "alone": None}).json()["aliases"] == {"stable": 1}


def test_etags_tell_changes(client: TestClient) -> None:
    first = client.get(URL).headers["etag"]
    changed = patch(client, first, aliases={"stable": 1})
    assert changed.status_code == 200
    second = changed.headers["etag"]
    assert second == client.get(URL).headers["etag"] != first
    assert patch(client, second, aliases={"stable": 1}).headers["etag"] == second, "no change"
    stale = patch(client, first, aliases={"stable": 2})
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "precondition_failed")
    stale = client.post(f"{URL}/rollback", headers={"If-Match": first})
    assert stale.status_code == 412
    assert client.get(URL).json()["aliases"] == {"stable": 1}


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("{tag}", 200),
        ('"x", {tag}', 200),
        ("*", 200),
        ("W/{tag}", 412),
        ('"x"', 412),
        ('""', 412),
        ("", 400),
        ("2", 400),
        ('"2', 400),
        ('{tag} "3"', 400),
    ],
)
def test_forms_of_if_match(client: TestClient, form: str, status: int) -> None:
    tag = client.get(URL).headers["etag"]
    assert patch(client, form.format(tag=tag), aliases={"x": 1}).status_code == status


def test_rollback_is_one_call(client: TestClient) -> None:
    response = client.post(f"{URL}/rollback")
    assert response.json()["current"]["version"] == 1
    assert response.headers["etag"] == client.get(URL).headers["etag"]
    response = client.post(f"{URL}/rollback")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "name_conflict")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"current": 7}, "current"),
        ({"aliases": {"stable": 7}}, "aliases.stable"),
        ({"aliases": {"stable": {"1": 1, "7": 1}}}, "aliases.stable"),
        ({"aliases": {"fine": 1, "never": None}}, "aliases.never"),
    ],
)
def test_the_unknown_is_a_422_that_says_which(client: TestClient, body: dict, param: str) -> None:
    response = patch(client, **body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (422, "unknown_target", param)
    assert client.get(URL).json()["aliases"] == {}


def test_an_unknown_adapter_is_a_404(client: TestClient) -> None:
    for name in ("b", "a@1", "..", "%2e"):
        assert client.patch(f"/v1/adapters/{name}", json={"current": 1}).status_code == 404
        assert client.post(f"/v1/adapters/{name}/rollback").status_code == 404


@BOTH
@pytest.mark.parametrize(
    ("fields", "header", "key"),
    [
        ({"user": "ann"}, None, "ann"),
        ({}, "team-7", "team-7"),
        ({"user": "ann"}, "team-7", "team-7"),
    ],
)
def test_who_asks_reaches_the_registry(
    world: World, route: str, fields: dict, header: str | None, key: str
) -> None:
    async def ask() -> int:
        body = {**ROUTES[route], "model": "alpha", **fields}
        headers = {} if header is None else {"x-sticky-key": header}
        async with world.client() as client:
            return (await client.post(route, json=body, headers=headers)).status_code

    assert run(ask()) == 200
    assert world.registry.keys == [key]


@BOTH
def test_without_a_key_chance_decides(world: World, route: str) -> None:
    for _ in range(3):
        assert post(world, route, model="alpha", user="").status_code == 200
    assert len(set(world.registry.keys)) == 3


@BOTH
def test_a_user_is_a_string(world: World, route: str) -> None:
    refused(post(world, route, user=5), "user")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"current": 0}, "current"),
        ({"current": True}, "current"),
        ({"aliases": {"Stable": 1}}, "aliases"),
        ({"aliases": {"x" * 65: 1}}, "aliases"),
        ({"aliases": {"3": 1}}, "aliases"),
        ({"aliases": {"x": {}}}, "aliases.x"),
        ({"aliases": {"x": {"1": 0}}}, "aliases.x"),
        ({"aliases": {"x": {"1": 0.5}}}, "aliases.x"),
        ({"aliases": {"x": {"01": 1}}}, "aliases.x"),
        ({"aliases": {"x": "1"}}, "aliases.x"),
        ({"aliases": {"x": {str(i): 1 for i in range(1, 18)}}}, "aliases.x"),
        ({"alias": {"x": 1}}, "alias"),
    ],
)
def test_a_wrong_body_names_its_field(world: World, body: dict, param: str) -> None:
    """Refused before anything looks at an adapter, so there need be none."""

    async def ask() -> httpx.Response:
        async with world.client() as client:
            return await client.patch(URL, json=body)

    message = refused(run(ask()), param)
    assert len(message) < 400


def test_a_large_body_is_turned_away(world: World) -> None:
    world.settings["max_body_bytes"] = 1000

    async def ask() -> httpx.Response:
        async with world.client() as client:
            return await client.patch(URL, content=json.dumps({"aliases": {"x" * 2000: 1}}))

    assert run(ask()).status_code == 413
