"""Deleting, restoring and collecting over HTTP."""

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
from tests.api.test_adapters_upload import parts, serving

URL = "/v1/adapters/a"
GRACE = 600.0


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Path]]:
    base = make_base(tmp_path_factory.mktemp("base"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = [make_lora(base, tmp_path_factory.mktemp("lora"), seed=i) for i in (1, 2)]
    return base, folders


@pytest.fixture
def house(kit: tuple[Any, list[Path]], tmp_path: Path) -> House:
    return House(tmp_path / "store", kit[0].description, deleted_retention_s=GRACE)


@pytest.fixture
def client(house: House, kit: tuple[Any, list[Path]]) -> Iterator[TestClient]:
    """With `a` in two versions."""
    with serving(house) as client:
        for folder in kit[1]:
            response = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
            assert response.status_code == 201
        yield client


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def test_a_version_in_use_says_which_pointers_lead_to_it(client: TestClient) -> None:
    client.patch(URL, json={"aliases": {"stable": 2, "canary": {"1": 9, "2": 1}}})
    response = client.delete(f"{URL}@2")
    error = error_of(response, 409)
    assert error["code"] == "version_in_use"
    assert error["pointers"] == ["current", "aliases.canary", "aliases.stable"]
    assert all(pointer in error["message"] for pointer in error["pointers"])
    assert response.headers["x-should-retry"] == "false"
    assert error_of(client.delete(f"{URL}@1"), 409)["pointers"] == ["aliases.canary"]
    client.patch(URL, json={"aliases": {"canary": None}})
    digest = client.get(URL).json()["versions"][0]["digest"]
    response = client.delete(f"{URL}@{digest[:20]}")
    assert response.json() == {
        "object": "adapter.deleted", "name": "a", "version": 1, "deleted": True
    }  # fmt: skip
    assert response.headers["etag"] == client.get(URL).headers["etag"]


@pytest.mark.parametrize("suffix", ["@9", "@sha256:00000000", "@1@2", "@"])
def test_what_does_not_exist_is_a_404(client: TestClient, suffix: str) -> None:
    assert error_of(client.delete(URL + suffix), 404)["code"] == "adapter_not_found"
    assert len(client.get(URL).json()["versions"]) == 2


def test_an_alias_is_removed_by_a_patch(client: TestClient) -> None:
    error = error_of(client.delete(f"{URL}@stable"), 400)
    assert error["param"] == "name"
    assert '{"aliases": {"stable": null}}' in error["message"]
    assert error_of(client.delete("/v1/adapters/nobody@stable"), 404)


def test_a_version_is_shown_as_deleted_until_it_is_restored(client: TestClient) -> None:
    before = client.get(URL).json()
    client.delete(f"{URL}@1")
    shown = client.get(URL).json()
    (deleted,) = shown["deleted"]
    assert [one["version"] for one in shown["versions"]] == [2]
    assert deleted["recoverable_until"] - deleted["deleted_at"] == GRACE
    assert deleted["digest"] == before["versions"][0]["digest"]
    assert error_of(client.post("/v1/adapters/a@1/verify"), 404)["code"] == "model_not_found"
    response = client.post(f"{URL}/restore", json={"version": 1})
    assert response.status_code == 200
    assert response.headers["etag"] == client.get(URL).headers["etag"]
    assert response.json() == client.get(URL).json() == before


def test_a_name_is_listed_as_deleted_until_it_is_restored(client: TestClient) -> None:
    before = client.patch(URL, json={"current": 1, "aliases": {"new": 2}}).json()
    etag = client.delete(URL).headers["etag"]
    assert error_of(client.get(URL), 404)["code"] == "adapter_not_found"
    assert client.get("/v1/adapters").json()["data"] == []
    (shown,) = client.get("/v1/adapters?deleted=true").json()["data"]
    assert (shown["name"], shown["state"], shown["versions"]) == ("a", "deleted", [])
    assert [one["version"] for one in shown["deleted"]] == [1, 2]
    assert shown["aliases"] == {"new": 2}
    restored = client.post(f"{URL}/restore", headers={"If-Match": etag})
    assert restored.json() == before
    assert client.get("/v1/adapters?deleted=true").json()["data"] == []


@pytest.mark.parametrize("body", [{"version": 0}, {"version": "1"}, {"versions": 1}, [], "x"])
def test_a_wrong_restore_is_turned_away(client: TestClient, body: Any) -> None:
    client.delete(URL)
    assert client.post(f"{URL}/restore", json=body).status_code in (400, 422)
    assert client.get(URL).status_code == 404


def test_restores_that_cannot_be(client: TestClient) -> None:
    assert error_of(client.post(f"{URL}/restore"), 409)["code"] == "name_conflict"
    assert error_of(client.post(f"{URL}/restore", json={"version": 1}), 409)
    assert error_of(client.post(f"{URL}/restore", json={"version": 9}), 404)
    assert error_of(client.post("/v1/adapters/b/restore"), 404)["code"] == "adapter_not_found"


def test_changes_decided_on_an_older_state_are_a_412(client: TestClient) -> None:
    old = {"If-Match": client.get(URL).headers["etag"]}
    client.patch(URL, json={"aliases": {"x": 2}})
    for path in (URL, f"{URL}@1"):
        assert error_of(client.delete(path, headers=old), 412)["code"] == "precondition_failed"
    now = {"If-Match": client.get(URL).headers["etag"]}
    assert client.delete(f"{URL}@1", headers=now).status_code == 200
    assert error_of(client.post(f"{URL}/restore", json={"version": 1}, headers=now), 412)


def test_what_is_past_its_grace_is_gone(client: TestClient, house: House) -> None:
    client.delete(URL)
    assert client.post("/v1/adapters:gc").json()["versions"] == []
    house.skipped_s = GRACE
    assert client.get("/v1/adapters?deleted=true").json()["data"] == []
    for body in (None, {"version": 1}):
        assert error_of(client.post(f"{URL}/restore", json=body), 404)
    planned = client.post("/v1/adapters:gc?dry_run=true").json()
    assert [one["version"] for one in planned["versions"]] == [1, 2]
    assert planned["content_bytes"] > 0
    freed = client.post("/v1/adapters:gc").json()
    assert freed == planned | {"dry_run": False}
    assert client.post("/v1/adapters:gc").json()["contents"] == 0
