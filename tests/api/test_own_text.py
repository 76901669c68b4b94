"""An adapter's own template and tokens reach its requests, and nobody else's."""

import json
from collections.abc import Mapping, Sequence

import httpx
import pytest

from service.errors import InvalidRequest
from service.text import TextForm
from tests.api.conftest import World, run
from tests.fakes import ByteTokenizer, FakeEngine, FakeTexts, adapter_ref

OWN = adapter_ref("alpha", 2).digest
HEART, END = 280, 281


class HeartTokenizer(ByteTokenizer):
    """Has a token that the base does not have: `<3`."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        pieces = text.split("<3")
        ids = super().encode(pieces[0], add_special_tokens)
        for piece in pieces[1:]:
            ids += [HEART, *super().encode(piece, False)]
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        text = ""
        for one in ids:
            text += "<3" if one == HEART else super().decode([one], skip_special_tokens)
        return text

    def is_special(self, token_id: int) -> bool:
        return token_id != HEART and super().is_special(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return b"<3" if token_id == HEART else super().token_bytes(token_id)


async def render(messages: Sequence[Mapping[str, str]]) -> str:
    if messages[0]["role"] == "system":
        raise InvalidRequest("The chat template refuses: no system here", "messages")
    return "".join(f"[{one['content']}]" for one in messages)


@pytest.fixture
def world() -> World:
    form = TextForm(HeartTokenizer(), render, own_eos_ids=(END,))
    return World(texts=FakeTexts(own={OWN: form}))


def ask(world: World, route: str, **body: object) -> httpx.Response:
    async def post() -> httpx.Response:
        async with world.client() as client:
            return await client.post(f"/v1/{route}", json=body)

    return run(post())


def chat(world: World, model: str, content: str = "Hi", role: str = "user") -> httpx.Response:
    return ask(
        world, "chat/completions", model=model, messages=[{"role": role, "content": content}]
    )


def prompts(world: World) -> list[str]:
    return [HeartTokenizer().decode(one.prompt_ids, False) for one in world.engine.submitted]


def test_each_version_renders_with_its_own_template(world: World) -> None:
    for model in ("alpha@2", "alpha@1", "tiny", "beta"):
        assert chat(world, model).status_code == 200
    assert prompts(world) == ["[Hi]", "user: Hi\n", "user: Hi\n", "user: Hi\n"]


def test_what_the_template_says_reaches_the_client(world: World) -> None:
    response = chat(world, "alpha", role="system")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The chat template refuses: no system here"
    assert response.json()["error"]["param"] == "messages"
    assert world.is_all_given_back()
    assert not world.engine.submitted


def test_own_tokens_go_in_and_come_out(world: World) -> None:
    world.engine = FakeEngine(reply=lambda request: "ok")
    assert ask(world, "completions", model="alpha", prompt="a<3", max_tokens=1).status_code == 200
    assert ask(world, "completions", model="tiny", prompt="a<3", max_tokens=1).status_code == 200
    own, base = world.engine.submitted
    assert own.prompt_ids[-1] == HEART
    assert base.prompt_ids[-2:] == tuple(b"<3")
    body = {"prompt": [65, HEART], "echo": True, "logprobs": 1, "max_tokens": 1}
    choice = ask(world, "completions", model="alpha", **body).json()["choices"][0]
    assert choice["text"] == "A<3o"
    assert choice["logprobs"]["tokens"] == ["A", "<3", "o"]
    other = ask(world, "completions", model="beta", **body).json()["choices"][0]
    assert other["logprobs"]["tokens"] == ["A", "<280>", "o"]


def test_an_own_end_ends_only_this_adapters_answers(world: World) -> None:
    for model, fields in (("alpha", {}), ("alpha", {"ignore_eos": True}), ("beta", {})):
        ask(world, "completions", model=model, prompt="x", max_tokens=3, **fields)
    stops = [one.params.stop_token_ids for one in world.engine.submitted]
    assert stops == [(END,), (), ()]
    body = {"prompt": "x", "max_tokens": 3, "stop_token_ids": [7, END]}
    ask(world, "completions", model="alpha", **body)
    assert world.engine.submitted[-1].params.stop_token_ids == (7, END)


def test_streams_use_the_own_form_too(world: World) -> None:
    response = ask(
        world,
        "chat/completions",
        model="alpha",
        messages=[{"role": "user", "content": "<3"}],
        stream=True,
        logprobs=True,
        max_tokens=2,
    )
    lines = [line for line in response.text.splitlines() if line.startswith("data: {")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(texts) == "I "
    assert world.engine.submitted[0].prompt_ids == (ord("["), HEART, ord("]"))
