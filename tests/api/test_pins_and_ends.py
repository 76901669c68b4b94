"""`pinned`, `ttl_s` and `expires_at` over HTTP: what is sent, what is shown, what is refused."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.adapters.house import House
from tests.api.test_adapters_upload import parts, serving
from tests.handlers.cheap import cheap_house, folder

URL = "/v1/adapters/a"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return cheap_house(tmp_path / "store", pinned_bytes=128)


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with serving(house) as client:
        assert upload(client, house).status_code == 201
        yield client


def upload(client: TestClient, house: House, name: str = "a", **query: Any) -> httpx.Response:
    files = parts(folder(house.root.parent, 1))
    return client.post("/v1/adapters", params=query, data={"name": name}, files=files)


def patch(client: TestClient, **body: Any) -> httpx.Response:
    return client.patch(URL, json=body)


def test_a_pin_is_shown_and_taken_back(client: TestClient, house: House) -> None:
    before = client.get(URL)
    assert (before.json()["pinned"], before.json()["pin_over_limit"]) == (False, False)
    pinned = patch(client, pinned=True)
    assert pinned.json()["pinned"] is True
    assert pinned.headers["etag"] != before.headers["etag"]
    assert len(house.pinned) == 1
    assert patch(client, aliases={"x": 1}).json()["pinned"] is True
    assert patch(client, pinned=False).json()["pinned"] is False
    assert house.pinned == []


def test_a_pin_beyond_the_limit_is_a_409_that_says_so(client: TestClient, house: House) -> None:
    files = parts(folder(house.root.parent, 2))
    client.post("/v1/adapters", data={"name": "b"}, files=files)
    assert client.patch("/v1/adapters/b", json={"pinned": True}).status_code == 200
    response = patch(client, pinned=True)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (409, "pin_limit")
    assert response.headers["x-should-retry"] == "false"
    assert "128 bytes" in error["message"]


def test_an_end_is_set_and_taken_away(client: TestClient) -> None:
    now = int(time.time())
    end = patch(client, ttl_s=100).json()["expires_at"]
    assert now + 100 <= end <= now + 110
    assert patch(client, aliases={"x": 1}).json()["expires_at"] == end
    assert patch(client, expires_at=now + 500).json()["expires_at"] == now + 500
    assert patch(client, ttl_s=None).json()["expires_at"] is None
    assert patch(client, ttl_s=100).json()["expires_at"] is not None
    assert patch(client, expires_at=None).json()["expires_at"] is None


def test_an_upload_may_say_how_long_it_lives(client: TestClient, house: House) -> None:
    assert upload(client, house, "b", ttl_s=100).status_code == 201
    shown = client.get("/v1/adapters/b").json()
    assert shown["expires_at"] - shown["created_at"] in (100, 101)
    house.skipped_s = 102.0
    assert client.get("/v1/adapters/b").status_code == 404
    assert client.get(URL).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"pinned": 1}, "pinned"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 1.5}, "ttl_s"),
        ({"ttl_s": 10**12}, "ttl_s"),
        ({"expires_at": 5}, "expires_at"),
        ({"expires_at": 10**12}, "expires_at"),
        ({"expires_at": 10**9, "ttl_s": 5}, "ttl_s"),
    ],
)
def test_wrong_values_name_their_field(client: TestClient, body: dict, param: str) -> None:
    response = patch(client, **body)
    assert response.status_code in (400, 422), response.text
    assert param in response.text
    assert client.get(URL).json()["expires_at"] is None
