"""Cold, warm and pinned adapters on a real engine: who is in memory, and who answers."""

import time
from pathlib import Path

import httpx

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

PROMPT = [5, 6, 7, 8]
BUDGETS = {"host_adapter_bytes": 6 * tiny.COMPILED_BYTES, "device_adapter_bytes": 2 * (64 << 10)}


def ask(server: Server, model: str, **fields: object) -> httpx.Response:
    body = {"model": model, "prompt": PROMPT, "max_tokens": 6, "temperature": 0, **fields}
    return server.client.post("/v1/completions", json=body)


def tier_of(server: Server, name: str) -> str:
    tier: str = server.client.get(f"/v1/adapters/{name}").json()["current"]["tier"]
    return tier


def is_soon_in_memory(server: Server, name: str) -> bool:
    for _ in range(200):
        if tier_of(server, name) in ("host", "device"):
            return True
        time.sleep(0.02)
    return False


def pin(server: Server, name: str) -> int:
    return server.client.patch(f"/v1/adapters/{name}", json={"pinned": True}).status_code


def test_cold_warm_and_pinned(base_folder: Path, tmp_path: Path) -> None:
    with Server(base_folder, tmp_path, **BUDGETS) as server:
        for seed in range(10):
            folder = tiny.write(tmp_path / "made" / f"a{seed}", seed)
            assert server.upload(f"a{seed}", folder).status_code == 201
        assert pin(server, "a0") == 200
        assert is_soon_in_memory(server, "a0")
        own = {seed: ask(server, f"a{seed}") for seed in range(10)}
        for seed in range(1, 10):
            assert ask(server, f"a{seed}").status_code == 200

        assert tier_of(server, "a0") in ("host", "device"), "whatever else was used"
        assert ask(server, "a0", max_cold_ms=0).status_code == 200
        refused = ask(server, "a1", max_cold_ms=0)
        assert (refused.status_code, refused.json()["error"]["code"]) == (504, "cold_load_timeout")
        assert int(refused.headers["retry-after"]) >= 1
        check_warming(server, "a1", own[1])
        check_fallback(server, own[0])
        assert [pin(server, f"a{seed}") for seed in range(1, 4)] == [200, 200, 409]


def check_warming(server: Server, name: str, own: httpx.Response) -> None:
    warmed = server.client.post(f"/v1/adapters/{name}/warm", json={"tier": "device"})
    assert warmed.status_code == 200, warmed.text
    assert (warmed.json()["tier"], tier_of(server, name)) == ("device", "device")
    answer = ask(server, name, max_cold_ms=0)
    assert answer.json()["choices"][0]["text"] == own.json()["choices"][0]["text"]


def check_fallback(server: Server, own: httpx.Response) -> None:
    """`own` is what the fallback says when it is asked itself."""
    for seed, stream in ((2, False), (3, True)):
        fields = {"max_cold_ms": 0, "cold_fallback": "a0", "stream": stream}
        answer = ask(server, f"a{seed}", **fields)
        assert answer.headers["x-cold-fallback"] == "true"
        assert answer.headers["x-adapter-version"] == "a0@1"
        if not stream:
            assert answer.json()["choices"] == own.json()["choices"]
            assert answer.json()["system_fingerprint"] == own.json()["system_fingerprint"]
    base = ask(server, "a4", max_cold_ms=0, cold_fallback="tiny-llama")
    assert base.json()["model"] == "tiny-llama"
    assert "x-adapter-version" not in base.headers
