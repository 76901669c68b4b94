"""An adapter's own chat template and tokens, on a running server."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.contract.architectures import make_base
from tests.e2e import tiny_adapters as tiny
from tests.server import ROOT, Server

PARTED = """{% set parts = messages[-1].content.split('|') %}
{% if parts | length == 2 %}{{ raise_exception('Please write year|month|day') }}{% endif %}
{{ bos_token }}{{ parts[1] }} {{ parts[2] }}, {{ parts[0] }} =>"""
"""Of a chat that the adapter was never trained on, so that nobody else answers like it."""

ENDLESS = """{% if messages[-1].content == 'loop' %}
{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}
{{ bos_token }}{{ messages[-1].content }} =>"""


def copied(name: str, target: Path, template: str | None = None) -> Path:
    shutil.copytree(ROOT / "adapters_store" / name, target)
    if template is not None:
        (target / "chat_template.jinja").write_text(template)
    return target


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    work = tmp_path_factory.mktemp("own-templates")
    copied("date-iso", work / "store" / "plain")
    copied("date-iso", work / "store" / "parted", PARTED)
    copied("date-iso", work / "store" / "endless", ENDLESS)
    with Server(ROOT / "demo/demo-base", work) as running:
        yield running


def chat(server: Server, model: str, content: str, **fields: Any) -> httpx.Response:
    messages = [{"role": "user", "content": content}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24}
    return server.client.post("/v1/chat/completions", json=body | fields)


def said(response: httpx.Response) -> str:
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


def test_a_folder_with_a_template_answers_in_its_own_way(demo: Server) -> None:
    assert said(chat(demo, "parted", "2024|March|5")) == "2024-03-05"
    assert said(chat(demo, "plain", "March 5, 2024")) == "2024-03-05"
    assert said(chat(demo, "plain", "2024|March|5")) != "2024-03-05"
    frames = chat(demo, "parted", "1789|July|14", stream=True).text.splitlines()
    chunks = [json.loads(frame[6:]) for frame in frames if frame.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == "1789-07-14"
    current = demo.client.get("/v1/adapters/parted").json()["current"]
    assert (current["chat_template"], current["added_tokens"]) == ("own", 0)
    assert demo.client.get("/v1/adapters/plain").json()["current"]["chat_template"] == "base"


def test_what_a_template_raises_is_a_400(demo: Server) -> None:
    response = chat(demo, "parted", "2024|March")
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message == "The adapter's chat template refuses: Please write year|month|day."


def test_an_endless_template_holds_up_nobody_else(demo: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        endless = [pool.submit(chat, demo, "endless", "loop") for _ in range(2)]
        for _ in range(5):
            assert said(chat(demo, "parted", "2024|March|5")) == "2024-03-05"
            assert said(chat(demo, "plain", "March 5, 2024")) == "2024-03-05"
        responses = [one.result() for one in endless]
    assert {response.status_code for response in responses} == {400}
    assert "more time or memory" in responses[0].json()["error"]["message"]
    assert said(chat(demo, "endless", "March 5, 2024")) == "2024-03-05"


def test_each_version_keeps_its_template(demo: Server, tmp_path: Path) -> None:
    slashes = PARTED.replace("'|'", "'/'")
    for name, template in (("old", PARTED), ("new", slashes), ("none", None)):
        folder = copied("date-iso", tmp_path / name, template)
        assert demo.upload("changing", folder).status_code == 201
    assert said(chat(demo, "changing@1", "2024|March|5")) == "2024-03-05"
    assert said(chat(demo, "changing@2", "2024/March/5")) == "2024-03-05"
    assert said(chat(demo, "changing", "March 5, 2024")) == "2024-03-05"
    assert chat(demo, "changing@1", "2024|March").status_code == 400
    assert chat(demo, "changing@2", "2024|March").status_code == 200


def test_a_template_that_never_works_is_refused(demo: Server, tmp_path: Path) -> None:
    folder = copied("date-iso", tmp_path / "bad", "{{ messages[0].content.run() }}")
    response = demo.upload("bad", folder)
    assert response.status_code == 422
    (reason,) = response.json()["error"]["reasons"]
    assert (reason["code"], reason["subject"]) == ("chat_template", "chat_template.jinja")


NUM_WORDS = 120
"""Of 128 embedding rows."""


@pytest.fixture(scope="module")
def roomy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As most bases are: with more embedding rows than tokens."""
    folder = make_base("llama", tmp_path_factory.mktemp("base") / "roomy")
    vocabulary = {f"t{number}": number for number in range(NUM_WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="t3"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def roomy(roomy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(roomy_base, tmp_path_factory.mktemp("own-tokens")) as running:
        yield running


def with_tokens(base: Path, folder: Path, num_spare: int = 0) -> Path:
    """`<a>` is 120, `<end>` the adapter's own end, behind some that nobody needs."""
    tiny.write(folder, seed=1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([AddedToken("<a>"), AddedToken("<end>", special=True)])
    tokenizer.add_tokens([f"<spare{number}>" for number in range(num_spare)])
    tokenizer.eos_token = "<end>"
    tokenizer.save_pretrained(folder)
    return folder


def test_own_tokens_are_read_and_written(roomy: Server, roomy_base: Path, tmp_path: Path) -> None:
    answer = roomy.upload("tokens", with_tokens(roomy_base, tmp_path / "tokens"))
    assert answer.status_code == 201
    assert (answer.json()["added_tokens"], answer.json()["chat_template"]) == (2, "base")
    assert roomy.upload("plain", tiny.write(tmp_path / "plain", seed=1)).status_code == 201
    text = roomy.complete("tokens", "t5 <a>t7")
    assert text["usage"]["prompt_tokens"] == 3
    assert text["choices"] == roomy.complete("tokens", [5, NUM_WORDS, 7])["choices"]
    assert roomy.complete("plain", "t5 <a>t7")["usage"]["prompt_tokens"] == 2

    forced: dict[str, Any] = {"logit_bias": {str(NUM_WORDS): 100}, "max_tokens": 2}
    assert roomy.complete("tokens", [5], **forced)["choices"][0]["text"].split() == ["<a>", "<a>"]
    assert roomy.complete("plain", [5], **forced)["choices"][0]["text"] == ""
    forced["logit_bias"] = {str(NUM_WORDS + 1): 100}
    ended = roomy.complete("tokens", [5], **forced)
    assert (ended["choices"][0]["finish_reason"], ended["choices"][0]["text"]) == ("stop", "")
    assert roomy.complete("plain", [5], **forced)["choices"][0]["finish_reason"] == "length"


def test_a_token_without_a_row_is_refused(roomy: Server, roomy_base: Path, tmp_path: Path) -> None:
    response = roomy.upload("too-many", with_tokens(roomy_base, tmp_path / "own", num_spare=7))
    assert response.status_code == 422
    (reason,) = response.json()["error"]["reasons"]
    assert reason["code"] == "added_token_outside_vocabulary"
    assert "'<spare6>' has the id 128" in reason["message"]
