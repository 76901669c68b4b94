"""Two tenants on a running server: neither its prefix cache nor its adapters tell them of each
other, and what they were given survives a restart."""

from pathlib import Path
from typing import Any

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

PROMPT = [3 + 7 * index % 90 for index in range(40)]
"""Two full blocks of 16 and a rest."""


def act(server: Server, key: str) -> None:
    server.client.headers["Authorization"] = f"Bearer {key}"


def post(server: Server, path: str, **body: Any) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 201, response.text
    return response.json()


def num_cached(server: Server, key: str, model: str) -> int:
    act(server, key)
    usage = server.complete(model, PROMPT)["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"]


def test_tenants_share_one_server_and_nothing_else(base_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "adapter", 1)
    with Server(base_folder, tmp_path, api_key="op") as server:
        act(server, "op")
        keys = []
        for tenant in ("team-a", "team-b"):
            post(server, "/v1/tenants", name=tenant)
            keys.append(post(server, "/v1/keys", tenant=tenant, role="publish"))
        one, other = (key["secret"] for key in keys)
        for key in (one, other):
            act(server, key)
            assert server.upload("task", folder).status_code == 201, "the same name and content"
        for model in (base_folder.name, "task"):
            assert num_cached(server, one, model) == 0
            assert num_cached(server, one, model) == 32
            assert num_cached(server, other, model) == 0, "how fast it is would tell"
        act(server, "op")
        revoked = server.client.delete(f"/v1/keys/{keys[1]['id']}")
        assert revoked.status_code == 200
        act(server, other)
        assert server.client.get("/v1/models").status_code == 401

    with Server(base_folder, tmp_path, api_key="op") as server:
        act(server, one)
        models = [entry["id"] for entry in server.client.get("/v1/models").json()["data"]]
        assert models == [base_folder.name, "task"]
        assert server.complete("team-a/task", PROMPT)["usage"]["completion_tokens"] > 0
        assert server.client.get("/metrics").status_code == 403
        for wrong in (other, "nonsense"):
            act(server, wrong)
            assert server.client.get("/v1/models").status_code == 401
        assert one not in server.log
