"""300 adapters, room for 8 on the device and 32 in host memory: every answer is still right."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

NUM_ADAPTERS = 300
PAGE_BYTES = 64 << 10


def test_every_answer_equals_its_solo_reference(base_folder: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    order = [*range(NUM_ADAPTERS), *(draw.randrange(NUM_ADAPTERS) for _ in range(150))]
    draw.shuffle(order)
    prompts = [[draw.randrange(3, 128) for _ in range(draw.randrange(2, 20))] for _ in order]
    budgets = {
        "max_open_uploads": 24,
        "device_adapter_bytes": 8 * PAGE_BYTES,
        "host_adapter_bytes": 32 * tiny.COMPILED_BYTES,
    }
    with Server(base_folder, tmp_path, **budgets) as server, ThreadPoolExecutor(24) as pool:

        def upload(seed: int) -> int:
            folder = tiny.write(tmp_path / "made" / f"a{seed}", seed)
            return server.upload(f"a{seed}", folder).status_code

        def ask(seed: int, prompt: list[int]) -> dict:
            return server.complete(f"a{seed}", prompt, ignore_eos=True)

        assert set(pool.map(upload, range(NUM_ADAPTERS))) == {201}
        answers = list(pool.map(ask, order, prompts))
        evictions = {
            tier: server.metric("repertoire_adapter_tier_evictions_total", tier=tier)
            for tier in ("device", "host")
        }
    reference = tiny.Reference(base_folder)
    for seed, prompt, answer in zip(order, prompts, answers, strict=True):
        outputs = tiny.output_ids(answer)
        assert len(outputs) == 8
        assert reference.agrees(seed, prompt, outputs), f"adapter {seed}"
    assert not reference.agrees(order[0] + 1, prompts[0], tiny.output_ids(answers[0]))
    assert min(evictions.values()) > 100, evictions
