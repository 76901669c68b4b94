"""Limits, usage and the audit log of a real server, and what a shutdown leaves of them."""

from pathlib import Path
from typing import Any

from tests.e2e import tiny_adapters as tiny
from tests.e2e.test_lifecycle import PROMPT, eventually
from tests.server import Server


def used(server: Server) -> dict[str, dict[str, Any]]:
    """By adapter."""
    report = server.client.get("/v1/usage", params={"group_by": "adapter"}).json()
    return {one["adapter"]: one for one in report["data"]}


def written(server: Server) -> str:
    return "".join(path.read_text() for path in server.store.glob(".repertoire/usage/*.json"))


def test_what_was_used_and_changed_outlives_the_process(base_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "made", 6)
    limits = {"tenant_requests_per_minute": 3, "tenant_max_adapters": 1}
    with Server(base_folder, tmp_path, usage_flush_s=3600, **limits) as server:
        published = server.upload("counted", folder)
        assert published.status_code == 201
        refused = server.upload("one-more", folder)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "quota_exceeded")
        for model in ("counted", "counted", "tiny-llama"):
            server.complete(model, PROMPT, ignore_eos=True)
        body = {"model": "counted", "prompt": PROMPT}
        limited = server.client.post("/v1/completions", json=body)
        assert limited.status_code == 429
        assert 0 < int(limited.headers["retry-after"]) <= 60
        usage = used(server)
        assert (usage["counted"]["requests"], usage["tiny-llama"]["requests"]) == (2, 1)
        assert usage["counted"]["prompt_tokens"] == 2 * len(PROMPT)
        assert usage["counted"]["completion_tokens"] == 2 * 8
        assert usage["counted"]["loaded_bytes"] > 0, "the first of the two has brought it in"
        assert usage["tiny-llama"]["loaded_bytes"] == 0
        assert written(server) == ""
        assert server.terminate() == 0

    with Server(base_folder, tmp_path, usage_flush_s=0.05) as server:
        assert used(server) == usage
        (entry,) = server.client.get("/v1/audit").json()["data"]
        assert (entry["action"], entry["target"]) == ("adapter.publish", "counted")
        assert entry["actor"] == {"tenant": "default", "key": "anonymous"}
        assert entry["request_id"] == published.headers["x-request-id"]
        before = written(server)
        server.complete("counted", PROMPT)
        assert eventually(lambda: written(server) != before), "not at the end alone"
        server.kill()
