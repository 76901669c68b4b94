"""The official client against a real server: what users run."""

from collections.abc import Iterator
from dataclasses import replace

import openai
import pytest

from tests.api.conftest import World, run, serve
from tests.fakes import FakeRegistry, adapter_ref


@pytest.fixture
def address(world: World) -> Iterator[str]:
    with serve(world.app()) as address:
        yield address


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


MESSAGES = [{"role": "user", "content": "Who are you?"}]


def test_chat(client: openai.OpenAI, world: World) -> None:
    answer = client.chat.completions.create(model="alpha", messages=MESSAGES)
    assert answer.choices[0].message.content == "I am alpha, choice 0."
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "alpha"
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.system_fingerprint == "fp_abababababab_020202020202"
    assert answer.usage.prompt_tokens == len("user: Who are you?\n")
    assert answer.usage.completion_tokens == len("I am alpha, choice 0.") + 1
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )
    world.assert_all_given_back()


def test_a_task_goes_into_the_extra_body(world: World) -> None:
    world.registry = FakeRegistry(replace(adapter_ref("many"), num_tasks=3))
    world.engine.num_cached_tokens = lambda request: 2
    with serve(world.app()) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        for create, prompt in (
            (client.completions.create, {"prompt": "Hi"}),
            (client.chat.completions.create, {"messages": MESSAGES}),
        ):
            answer = create(model="many", extra_body={"task_id": 2}, **prompt)
            assert world.engine.submitted[-1].task_id == 2
            assert answer.usage.prompt_tokens_details.cached_tokens == 2
            with pytest.raises(openai.BadRequestError) as caught:
                create(model="many", extra_body={"task_id": 3}, **prompt)
            assert caught.value.param == "task_id"


def test_chat_stream(client: openai.OpenAI, world: World) -> None:
    chunks = list(client.chat.completions.create(model="beta", messages=MESSAGES, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "I am beta, choice 0."
    assert [one.choices[0].finish_reason for one in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert {one.object for one in chunks} == {"chat.completion.chunk"}
    assert len({one.id for one in chunks}) == 1
    assert all(one.usage is None for one in chunks)
    world.assert_all_given_back()


def test_chat_stream_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len("I am base, choice 0.") + 1
    assert all(one.usage is None for one in chunks[:-1])


def test_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="Hi", max_tokens=4)
    assert answer.choices[0].text == "I am"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == 3
    assert answer.usage.completion_tokens == 4


def test_completion_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(model="alpha@1", prompt="Hi", max_tokens=100, stream=True)
    )
    assert "".join(one.choices[0].text for one in chunks) == "I am alpha, choice 0."
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_async_client(address: str) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            whole = await client.chat.completions.create(model="tiny:alpha", messages=MESSAGES)
            stream = await client.chat.completions.create(
                model="beta", messages=MESSAGES, stream=True
            )
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return f"{whole.choices[0].message.content} {''.join(parts)}"

    assert run(ask()) == "I am alpha, choice 0. I am beta, choice 0."


def test_headers_name_the_version(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="alpha", messages=MESSAGES)
    assert raw.headers["x-adapter-version"] == "alpha@2"
    assert raw.headers["x-adapter-digest"] == "sha256:" + "02" * 32
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES)
    assert "x-adapter-version" not in raw.headers


def test_unknown_model(client: openai.OpenAI, world: World) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gamma", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert world.engine.submitted == []


def test_models(client: openai.OpenAI) -> None:
    models = {one.id: one for one in client.models.list()}
    assert set(models) == {"tiny", "alpha", "beta"}
    assert models["alpha"].parent == "tiny"
    assert models["tiny"].parent is None
    assert client.models.retrieve("alpha@1").id == "alpha@1"
    assert client.models.retrieve("tiny").created == 1_600_000_000


def test_stream_that_fails_raises_in_the_client(client: openai.OpenAI, world: World) -> None:
    from service.errors import EngineFailed

    world.engine.error_after = (3, EngineFailed("The engine died."))
    stream = client.chat.completions.create(model="alpha", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="The engine died"):
        list(stream)
    world.assert_all_given_back()
