"""Adapters of several kinds uploaded over HTTP, run by the live engine and compared with peft."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM

from tests.server import Server

QV = ["q_proj", "v_proj"]
KINDS = {
    "LORA": {"r": 4, "target_modules": QV},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "HIRA": {"r": 4, "target_modules": QV},
    "PROMPT_TUNING": {"num_virtual_tokens": 5},
    "PREFIX_TUNING": {"num_virtual_tokens": 5},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 3, "num_tasks": 2},
    "LN_TUNING": {},
    "POLY": {"r": 4, "n_tasks": 3, "n_skills": 2, "target_modules": QV},
}
WITH_TASKS = {"MULTITASK_PROMPT_TUNING", "POLY"}


def make(base: Path, kind: str, folder: Path) -> Path:
    torch.manual_seed(1)
    config: PeftConfig = PEFT_TYPE_TO_CONFIG_MAPPING[kind](task_type="CAUSAL_LM", **KINDS[kind])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(base_folder, tmp_path_factory.mktemp("server"), verify_uploads=True) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_of_any_kind_is_checked_and_served(
    server: Server, base_folder: Path, tmp_path: Path, kind: str
) -> None:
    answer = server.upload(kind, make(base_folder, kind, tmp_path / kind))
    assert answer.status_code == 201, answer.text
    check = answer.json()["check"]
    assert check["verdict"] == "exact"
    assert check["max_logit_difference"] < 1e-4
    assert check["positions"] >= 42
    assert answer.json()["form"] == ("module" if kind == "HIRA" else "terms")
    assert server.client.get(f"/v1/adapters/{kind}").json()["current"]["check"] == check
    task = {"task_id": 1} if kind in WITH_TASKS else {}
    mine, base = (
        server.complete(name, [5, 6, 7], logprobs=0, **extra)["choices"][0]["logprobs"]
        for name, extra in ((kind, task), (base_folder.name, {}))
    )
    assert mine["token_logprobs"] != base["token_logprobs"]
    for phase in ("receive", "compile", "verify", "commit"):
        assert server.metric("repertoire_upload_phase_seconds_count", phase=phase) >= 1


def test_a_published_version_can_be_verified_again(server: Server) -> None:
    answer = server.client.post("/v1/adapters/LORA@1/verify")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["name"], body["version"], body["verdict"]) == ("LORA", 1, "exact")
    assert body["digest"] == server.client.get("/v1/adapters/LORA").json()["current"]["digest"]
    missing = server.client.post("/v1/adapters/nobody/verify")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "adapter_not_found")


def test_a_refusal_of_the_compile_server_names_the_field(
    server: Server, base_folder: Path, tmp_path: Path
) -> None:
    folder = make(base_folder, "IA3", tmp_path / "ia3")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "sparsity": 0.5}))
    answer = server.upload("wrong", folder)
    assert answer.status_code == 422
    assert [one["subject"] for one in answer.json()["error"]["reasons"]] == ["sparsity"]
