"""Weighted sums of the demo's adapters over HTTP, against the sums in the weights of the base."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.test_lifecycle import eventually
from tests.server import ROOT, Server
from tests.test_readme import copy_demo_store

BASE = ROOT / "demo/demo-base"
PROMPTS = ("March 5, 2024 =>", "(415) 555-0132 =>", "1994 =>", "the story of the river =>")
SUMS: tuple[dict[str, float], ...] = (
    {"date-iso": 0.5, "phone-e164": 0.5},
    {"slug": 0.7, "title-case": 0.7},
    {"roman": 0.5, "date-iso": 1.0, "slug": -0.25},
    {"slug": 0.25},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    work = tmp_path_factory.mktemp("sums")
    with Server(BASE, work, store=copy_demo_store(work / "store")) as running:
        yield running


def ask(server: Server, weights: Mapping[str, float], prompt: str) -> httpx.Response:
    adapters = [{"name": name, "weight": weight} for name, weight in weights.items()]
    body = {"model": "demo-base", "adapters": adapters, "prompt": prompt}
    return server.client.post("/v1/completions", json=body | {"max_tokens": 24, "temperature": 0})


def text_of(response: httpx.Response) -> str:
    response.raise_for_status()
    return str(response.json()["choices"][0]["text"])


@torch.no_grad()
def expected_texts(weights: Mapping[str, float]) -> list[str]:
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    for name, weight in weights.items():
        fresh = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(fresh, ROOT / "adapters_store" / name)
        for path, layer in adapted.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                model.get_submodule(path).weight += weight * layer.get_delta_weight("default")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        output = model.generate(ids, max_new_tokens=24, do_sample=False)
        texts.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def test_sums_in_one_load_with_their_parts(server: Server) -> None:
    asked = [(weights, prompt) for weights in SUMS for prompt in PROMPTS]
    with ThreadPoolExecutor(16) as threads:
        singles = [threads.submit(server.complete, "roman", "1994 =>") for _ in range(4)]
        answers = list(threads.map(lambda one: text_of(ask(server, *one)), asked))
    expected = [text for weights in SUMS for text in expected_texts(weights)]
    assert dict(zip(map(str, asked), answers, strict=True)) == dict(
        zip(map(str, asked), expected, strict=True)
    )
    assert {one.result()["choices"][0]["text"] for one in singles} == {"MCMXCIV"}
    assert answers[:2] == ["2024-03-05", "+14155550132"], "one sum does both tasks"


def test_what_is_not_low_rank_is_refused_by_name(server: Server) -> None:
    response = ask(server, {"roman": 0.5, "to-json": 0.5}, "x")
    assert response.status_code == 400
    assert "'to-json@1'" in response.json()["error"]["message"]
    for name, is_summable in (("roman", True), ("to-json", False)):
        version = server.client.get(f"/v1/adapters/{name}").json()["current"]
        assert version["summable"] is is_summable
    alone = ask(server, {"to-json": 1}, "name: Ann =>")
    assert alone.headers["x-adapter-version"] == "to-json@1"


def test_a_deleted_part_takes_its_sums_along(server: Server) -> None:
    folder = ROOT / "adapters_store/date-iso"
    server.upload("short-lived", folder_of_another_content(folder, server.store.parent))
    weights = {"short-lived": 0.5, "phone-e164": 0.5}
    held = server.metric("repertoire_adapter_tier_adapters", tier="host")
    assert ask(server, weights, PROMPTS[1]).status_code == 200
    assert server.metric("repertoire_adapter_tier_adapters", tier="host") == held + 1
    server.client.delete("/v1/adapters/short-lived").raise_for_status()
    response = ask(server, weights, PROMPTS[1])
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "adapters"
    assert eventually(
        lambda: server.metric("repertoire_adapter_tier_adapters", tier="host") == held
    )


def folder_of_another_content(folder: Path, work: Path) -> Path:
    """The same tensors with another scaling."""
    copy = work / "short-lived"
    copy.mkdir()
    for path in folder.iterdir():
        text = path.read_bytes()
        (copy / path.name).write_bytes(text.replace(b'"lora_alpha": ', b'"lora_alpha": 1'))
    return copy
