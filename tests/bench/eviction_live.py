"""The same question of a real server: how often it loads, under each policy, over HTTP."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.contract.architectures import make_base
from tests.server import Server

RANKS = (2, 4, 16, 64)
_WIDTH = 64
"""Of the tiny base."""
_PAGE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Live:
    num_requests: int
    loads: float
    load_seconds: float


def compare(
    work: Path, policies: list[str], num_adapters: int, num_requests: int
) -> dict[str, Live]:
    """One store for all; a server, and an empty memory, for each."""
    draw = random.Random(0)
    base = make_base("llama", work / "base")
    ranks = [draw.choice(RANKS) for _ in range(num_adapters)]
    folders = [_adapter(work / "made" / f"a{i}", i, rank) for i, rank in enumerate(ranks)]
    weights = [1 / (i + 1) for i in range(num_adapters)]
    wanted = draw.choices(range(num_adapters), weights, k=num_requests)
    host_bytes = max(sum(map(_compiled_bytes, ranks)) // 8, 2 * _compiled_bytes(max(RANKS)))
    budgets = {"host_adapter_bytes": host_bytes, "device_adapter_bytes": 2 * _PAGE_BYTES}
    found = {}
    for policy in policies:
        with Server(base, work, eviction_policy=policy, **budgets) as server:
            if not found:
                with ThreadPoolExecutor(4) as pool:
                    for response in pool.map(server.upload, _names(num_adapters), folders):
                        response.raise_for_status()
            for one in wanted:
                server.complete(f"a{one}", [5, 6, 7], max_tokens=1)
            loads, seconds = (
                server.metric(f"repertoire_adapter_tier_{name}_total", tier="host")
                for name in ("loads", "load_seconds")
            )
            found[policy] = Live(num_requests, loads, seconds)
    return found


def _names(count: int) -> list[str]:
    return [f"a{i}" for i in range(count)]


def _compiled_bytes(rank: int) -> int:
    """Two layers, A `[rank, 64]` and B `[64, rank]` in float32."""
    return 2 * 2 * rank * _WIDTH * 4


def _adapter(folder: Path, seed: int, rank: int) -> Path:
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(2):
        path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"] = torch.randn(rank, _WIDTH, generator=draw)
        tensors[f"{path}.lora_B.weight"] = torch.randn(_WIDTH, rank, generator=draw)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank}
    config["target_modules"] = ["q_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
