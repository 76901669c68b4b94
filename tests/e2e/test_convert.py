"""`?convert=lora&rank=r`: only when asked, and what it costs is measured and kept."""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.server import Server


@pytest.fixture(scope="module")
def loha(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of rank 2, so that each weight's change has rank 4."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("loha")
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    config = LoHaConfig(r=2, alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(base_folder, tmp_path_factory.mktemp("server")) as running:
        yield running


def upload(server: Server, name: str, folder: Path, **query: object) -> dict:
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="adapter")
    files = {"archive": archive.read_bytes()}
    answer = server.client.post("/v1/adapters", data={"name": name}, files=files, params=query)
    return {"status": answer.status_code, **answer.json()}


@torch.no_grad()
def greedy(base: Path, folder: Path, prompt: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, folder).eval()
    ids = list(prompt)
    for _ in range(count):
        ids.append(adapted(torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[len(prompt) :]


def test_enough_rank_costs_nothing_and_the_version_says_so(
    server: Server, loha: Path, base_folder: Path
) -> None:
    made = upload(server, "full", loha, convert="lora", rank=4)
    assert made["status"] == 201, made
    assert (made["kind"], made["rank"], made["form"]) == ("lora", 4, "terms")
    cost = made["conversion"]
    assert (cost["kind"], cost["rank"]) == ("loha", 4)
    assert len(cost["modules"]) == 4
    assert max(cost["modules"].values()) == cost["max_error"] < 1e-5
    assert abs(cost["mean_kl"]) < 1e-5
    assert server.client.get("/v1/adapters/full").json()["current"]["conversion"] == cost
    answer = server.complete("full", [5, 6, 7], max_tokens=6)
    tokens = [int(word[1:]) for word in answer["choices"][0]["text"].split()]
    assert tokens == greedy(base_folder, loha, [5, 6, 7], 6)


def test_too_little_rank_is_measured(server: Server, loha: Path) -> None:
    cost = upload(server, "half", loha, convert="lora", rank=2)["conversion"]
    assert 0.05 < cost["max_error"] < 1
    assert cost["mean_kl"] > 1e-4


def test_never_without_being_asked(server: Server, loha: Path) -> None:
    made = upload(server, "as-it-is", loha)
    assert (made["status"], made["kind"], made["conversion"]) == (201, "loha", None)


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ({"convert": "lora"}, 400, "rank"),
        ({"rank": 4}, 400, "convert"),
        ({"convert": "lora", "rank": 0}, 400, None),
        ({"convert": "ia3", "rank": 4}, 400, None),
        ({"convert": "lora", "rank": 4096}, 400, "rank"),
    ],
)
def test_what_is_asked_has_to_make_sense(
    server: Server, loha: Path, query: dict, status: int, param: str | None
) -> None:
    answer = upload(server, "wrong", loha, **query)
    assert answer["status"] == status, answer
    if param:
        assert answer["error"]["param"] == param


def test_what_cannot_be_converted_is_refused(
    server: Server, base_folder: Path, tmp_path: Path
) -> None:
    from tests.e2e.test_verify import make

    for kind in ("LORA", "IA3", "PROMPT_TUNING"):
        answer = upload(
            server, "wrong", make(base_folder, kind, tmp_path / kind), convert="lora", rank=4
        )
        assert answer["status"] == 422
        assert [one["code"] for one in answer["error"]["reasons"]] == ["cannot_convert"]


@pytest.mark.parametrize("query", [{}, {"convert": "lora", "rank": 4}])
def test_a_chat_template_stays_with_an_upload_that_peft_reads(
    server: Server, loha: Path, tmp_path: Path, query: dict[str, object]
) -> None:
    folder = shutil.copytree(loha, tmp_path / "own")
    (folder / "chat_template.jinja").write_text("t{{ messages[0].content | int + 1 }}")
    made = upload(server, "chatty", folder, **query)
    assert (made["status"], made["chat_template"]) == (201, "own")
    messages = [{"role": "user", "content": "4"}]
    body = {"model": "chatty", "messages": messages, "max_tokens": 4, "temperature": 0}
    answer = server.client.post("/v1/chat/completions", json=body).json()
    expected = server.complete("chatty", [5], max_tokens=4)["choices"][0]["text"]
    assert answer["choices"][0]["message"]["content"] == expected
