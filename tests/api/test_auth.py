"""Whom a request acts for, from its key to the engine."""

from typing import Any

import httpx
import pytest

from service.tenancy import Role
from tests.api.conftest import World, run

BODY = {"model": "alpha", "prompt": "Hi", "max_tokens": 2}


def ask(world: World, method: str, path: str, key: str | None = None, **fields: Any) -> Any:
    async def work() -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with world.client() as client:
            return await client.request(method, path, headers=headers, **fields)

    return run(work())


def new_key(world: World, tenant: str, role: Role) -> str:
    return world.new_key(tenant, role)


@pytest.mark.parametrize("operator_keys", [(), ("op",)], ids=["open", "closed"])
def test_the_tenant_of_a_key_reaches_the_engine(
    world: World, operator_keys: tuple[str, ...]
) -> None:
    world.settings["api_key"] = operator_keys
    key = new_key(world, "team-a", Role.USE)
    assert ask(world, "POST", "/v1/completions", key, json=BODY).status_code == 200
    assert ask(world, "POST", "/v1/completions", "op", json=BODY).status_code == 200
    assert [one.tenant for one in world.engine.submitted] == ["team-a", "default"]


def test_what_a_role_does_not_include_is_refused(world: World) -> None:
    key = new_key(world, "team-a", Role.USE)
    for method, path in (
        ("POST", "/v1/adapters"),
        ("PATCH", "/v1/adapters/x"),
        ("DELETE", "/v1/adapters/x"),
        ("POST", "/v1/adapters/x/rollback"),
        ("POST", "/v1/adapters/x/verify"),
        ("POST", "/v1/adapters/x/restore"),
        ("POST", "/v1/adapters:gc"),
    ):
        response = ask(world, method, path, key, **({"json": {}} if method == "PATCH" else {}))
        assert response.status_code == 403, (method, path)
        assert response.json()["error"]["code"] == "permission_denied"
        assert response.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize("tenant", ["team-a", "default"])
def test_metrics_are_for_operators(world: World, tenant: str) -> None:
    roles = [Role.USE, Role.PUBLISH] if tenant == "default" else list(Role)
    for role in roles:
        assert ask(world, "GET", "/metrics", new_key(world, tenant, role)).status_code == 403
    assert ask(world, "GET", "/metrics", new_key(world, "default", Role.ADMIN)).status_code == 200
    assert ask(world, "GET", "/version", new_key(world, tenant, Role.USE)).status_code == 200
