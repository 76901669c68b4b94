"""`POST /v1/adapters` with a source, and `/v1/imports`: bodies, statuses, who sees what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from service.tenancy import Role
from tests.fuzz.app import IMPORT_ID, FuzzedApp
from tests.waiting import until

BODY = {"name": "a", "source": "adapter"}


@pytest.fixture
def fuzzed(tmp_path: Path) -> FuzzedApp:
    root = tmp_path / "root"
    (root / "adapter").mkdir(parents=True)
    (root / "adapter" / "adapter_config.json").write_text("{}")
    (root / "adapter" / "adapter_model.safetensors").write_bytes(b"\0")
    return FuzzedApp(tmp_path, source_root=root)


@pytest.fixture
def client(fuzzed: FuzzedApp) -> Iterator[TestClient]:
    with fuzzed.client() as client:
        yield client


def end_of(client: TestClient, began: httpx.Response) -> dict[str, Any]:
    assert began.status_code == 202, began.text
    states: list[dict[str, Any]] = []

    def is_over() -> bool:
        states.append(client.get(began.headers["location"]).json())
        return states[-1]["state"] in ("ready", "failed", "cancelled")

    until(is_over)
    return states[-1]


def test_an_import_answers_at_once_and_is_asked_for(client: TestClient) -> None:
    began = client.post("/v1/adapters?ttl_s=100", json=BODY)
    body = began.json()
    assert began.headers["location"] == f"/v1/imports/{body['id']}"
    assert (body["object"], body["state"]) == ("adapter.import", "waiting")
    assert (body["name"], body["tenant"], body["source"]) == ("a", "default", "adapter")
    over = end_of(client, began)
    assert (over["state"], over["error"], over["result"]["version"]) == ("ready", None, 1)
    adapter = client.get("/v1/adapters/a").json()
    assert adapter["expires_at"] is not None
    version = adapter["current"]
    assert version["digest"] == over["result"]["digest"]
    assert version["origin"]["source"] == "adapter"
    assert client.get("/v1/imports").json()["data"][0] == over
    assert client.delete(began.headers["location"]).json() == over


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"name": "a"}', 400, "source"),
        (b'{"name": "a", "source": 1}', 400, "source"),
        (b'{"name": "a", "source": ""}', 400, "source"),
        (b'{"name": "a", "source": "x", "token": "y"}', 400, "token"),
        (b'{"name": "no name", "source": "x"}', 400, "name"),
        (b'{"name": "a", "source": "http://host/a"}', 400, "source"),
        (b'{"name": "a", "source": "https://host/a"}', 403, None),
        (b'{"name": "a", "source": "../x"}', 202, None),
        (b" " * 20_000, 413, None),
        (b"[" * 16_000, 400, None),
    ],
)
def test_every_wrong_body(
    content: bytes, status: int, param: str | None, client: TestClient
) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = client.post("/v1/adapters", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["error"]["param"] == param


def test_a_failure_is_told_as_an_uploads_would_be(client: TestClient) -> None:
    (end,) = [end_of(client, client.post("/v1/adapters", json=BODY | {"source": "../x"}))]
    assert end["state"] == "failed"
    assert end["error"]["code"] == "source_refused"
    assert "--source-root" in end["error"]["message"]
    broken = client.get(f"/v1/imports/{IMPORT_ID}").json()
    assert broken["error"]["code"] == "adapter_refused"


def test_an_import_needs_the_role_and_is_the_tenants_own(
    fuzzed: FuzzedApp, client: TestClient
) -> None:
    world = fuzzed.world
    user, publisher, stranger = (
        {"authorization": f"Bearer {world.new_key(tenant, role)}"}
        for tenant, role in (
            ("team-x", Role.USE), ("team-x", Role.PUBLISH), ("team-y", Role.PUBLISH)
        )
    )  # fmt: skip
    assert client.post("/v1/adapters", json=BODY, headers=user).status_code == 403
    began = client.post("/v1/adapters", json=BODY, headers=publisher)
    assert began.json()["tenant"] == "team-x"
    path = began.headers["location"]
    assert client.get(path, headers=user).status_code == 403
    assert client.get(path, headers=publisher).status_code == 200
    for method in ("GET", "DELETE"):
        unseen = client.request(method, path, headers=stranger)
        unknown = client.request(method, f"/v1/imports/{'0' * 24}", headers=stranger)
        assert unseen.status_code == unknown.status_code == 404
        assert unseen.json()["error"]["code"] == "import_not_found"
    assert client.get("/v1/imports", headers=stranger).json()["data"] == []
    assert client.get("/v1/imports?tenant=team-x", headers=stranger).status_code == 403


def test_where_it_is_from_is_its_owners_business(fuzzed: FuzzedApp, client: TestClient) -> None:
    began = client.post("/v1/adapters?visibility=public", json=BODY)
    assert end_of(client, began)["state"] == "ready"
    stranger = {"authorization": f"Bearer {fuzzed.world.new_key('team-y', Role.USE)}"}
    shown = client.get("/v1/adapters/a?tenant=default", headers=stranger).json()
    assert shown["current"]["version"] == 1
    assert shown["current"]["origin"] is None
