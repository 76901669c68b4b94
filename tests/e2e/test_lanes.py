"""A base that runs one sequence at a time, as a server: it says so, and takes adapters like any."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.architectures import make_base
from tests.contract.lora_variants import make_adapter
from tests.contract.oracle import Oracle
from tests.contract.targets import JAMBA
from tests.e2e.tiny_adapters import output_ids
from tests.server import Server

PROMPTS = [[7, 11, 13, 17], [5], [40, 41, 42, 43, 44, 45, 46, 47, 48, 49], [9, 8, 7]]


@pytest.mark.filterwarnings("ignore")
def test_a_base_in_the_solo_lane_serves_adapters(tmp_path: Path) -> None:
    base = make_base("jamba", tmp_path / "jamba")
    folder = make_adapter(base, "all-linear", tmp_path / "adapter", targets=JAMBA)
    oracles = {"jamba": Oracle(base, None), "mine": Oracle(base, folder)}
    with Server(base, tmp_path, verify_uploads=True) as server:
        assert server.client.get("/version").json()["lane"] == "solo"
        uploaded = server.upload("mine", folder)
        assert uploaded.status_code == 201, uploaded.text
        jobs = [(model, prompt) for prompt in PROMPTS for model in oracles]
        with ThreadPoolExecutor(len(jobs)) as pool:
            answers = list(
                pool.map(lambda job: server.complete(*job, max_tokens=6, ignore_eos=True), jobs)
            )
        assert "ragged" in server.log
        assert "logits differ by" in server.log
    for (model, prompt), answer in zip(jobs, answers, strict=True):
        outputs = output_ids(answer)
        logits = oracles[model].logits([*prompt, *outputs[:-1]])[len(prompt) - 1 :]
        for token_id, row in zip(outputs, logits, strict=True):
            assert row.max() - row[token_id] < 1e-4
