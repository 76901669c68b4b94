"""Bodies that are small to send and dear to read: each is an answer before it costs anything."""

import time
from typing import Any

import pytest

from service.api.json_bounds import MAX_DEPTH, MAX_VALUES, find_problem
from service.api.middleware import SMALL_BODY_BYTES
from service.api.schemas.chat import MAX_MESSAGES
from tests.api.conftest import World, run

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MESSAGE = '{"role":"user","content":"x"}'


def ask(world: World, path: str, content: bytes, method: str = "POST") -> Any:
    async def work() -> Any:
        async with world.client() as client:
            headers = {"content-type": "application/json"}
            return await client.request(method, path, content=content, headers=headers)

    return run(work())


def listed(entry: str, count: int) -> str:
    return "[" + ",".join([entry] * count) + "]"


def keyed(entry: str, count: int) -> str:
    return "{" + ",".join(f'"{i}":{entry}' for i in range(count)) + "}"


JUST_ALLOWED = MAX_VALUES - 16
BODIES = {
    "values": (COMPLETIONS, f'{{"model":"alpha","prompt":{listed("1", MAX_VALUES)}}}', "values"),
    "ids": (COMPLETIONS, f'{{"model":"alpha","prompt":{listed("1", JUST_ALLOWED)}}}', "context"),
    "prompts": (COMPLETIONS, f'{{"model":"alpha","prompt":{listed("{}", 300_000)}}}', "prompts"),
    "mixed": (
        COMPLETIONS,
        f'{{"model":"alpha","prompt":[1,{listed("{}", 300_000)[1:]}}}',
        "prompt",
    ),
    "fields": (COMPLETIONS, keyed("0", 300_000), "fields"),
    "biases": (
        COMPLETIONS,
        f'{{"model":"alpha","prompt":"x","logit_bias":{keyed("{}", 300_000)}}}',
        "logit_bias",
    ),
    "stops": (
        COMPLETIONS,
        f'{{"model":"alpha","prompt":"x","stop":{listed("1", 900_000)}}}',
        "stop",
    ),
    "summands": (
        COMPLETIONS,
        f'{{"model":"tiny","prompt":"x","adapters":{listed("1", 900_000)}}}',
        "adapters",
    ),
    "messages": (CHAT, f'{{"model":"alpha","messages":{listed(MESSAGE, 150_000)}}}', "messages"),
    "wrong-messages": (CHAT, f'{{"model":"alpha","messages":{listed("1", 900_000)}}}', "messages"),
    "parts": (
        CHAT,
        f'{{"model":"alpha","messages":[{{"role":"user","content":{listed("1", 900_000)}}}]}}',
        "parts",
    ),
    "message-fields": (
        CHAT,
        f'{{"model":"alpha","messages":[{keyed("0", 300_000)}]}}',
        "fields",
    ),
    "depth": (COMPLETIONS, f'{{"model":"alpha","prompt":{"[" * 70_000}', "levels deep"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_flood_is_refused_before_every_entry_gets_an_error(world: World, what: str) -> None:
    """Each of them took seconds of the event loop, and up to gigabytes, when it was not."""
    path, body, word = BODIES[what]
    started = time.process_time()
    response = ask(world, path, body.encode())
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]
    assert len(response.content) < 2000
    assert time.process_time() - started < 3
    assert not world.engine.submitted


def test_a_number_that_no_float_holds_never_reaches_the_engine(world: World) -> None:
    for field in ("top_k", "max_tokens", "seed", "n"):
        body = f'{{"model":"alpha","prompt":"x","{field}":1{"0" * 400}}}'
        response = ask(world, COMPLETIONS, body.encode())
        assert response.status_code == 400, field
        assert response.json()["error"]["param"] == field
    assert not world.engine.submitted


def test_numbers_that_python_does_not_read_are_a_400(world: World) -> None:
    body = f'{{"model":"alpha","prompt":"x","top_k":{"1" * 5000}}}'
    assert ask(world, COMPLETIONS, body.encode()).status_code == 400


def test_only_prompts_and_uploads_may_be_large(world: World) -> None:
    body = b'{"aliases": {}, "x": "' + b"x" * SMALL_BODY_BYTES + b'"}'
    assert ask(world, "/v1/adapters/alpha", body, "PATCH").status_code == 413
    assert ask(world, "/v1/models/alpha", body, "GET").status_code == 413
    prompt = b'{"model": "alpha", "prompt": "' + b"x" * SMALL_BODY_BYTES + b'"}'
    assert ask(world, COMPLETIONS, prompt).json()["error"]["code"] == "context_length_exceeded"


def test_as_many_messages_as_allowed_are_read(world: World) -> None:
    world.base = world.base.__class__(**{**_fields(world.base), "max_model_len": 1 << 20})
    body = f'{{"model":"alpha","messages":{listed(MESSAGE, MAX_MESSAGES)},"max_tokens":4}}'
    assert ask(world, CHAT, body.encode()).status_code == 200


def _fields(base: Any) -> dict[str, Any]:
    return {name: getattr(base, name) for name in base.__dataclass_fields__}


def test_what_stands_in_strings_is_no_structure() -> None:
    text = '"' + "[{,\\\\" * MAX_VALUES + '\\""'
    assert find_problem(f'{{"a": {text}, "b": "]"}}'.encode()) is None
    nested = "[" * MAX_DEPTH + '"' + "x" * 300 + '"' + "]" * MAX_DEPTH
    assert find_problem(nested.encode()) is None
    assert "deep" in str(find_problem(f"[{nested}]".encode()))
    assert find_problem(b'"' + b"\\" * 10_000_001) is None
    assert find_problem(b"\xff\x00" * 10_000) is None


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_a_text_that_no_context_holds_is_not_encoded(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(text: str, add_special_tokens: bool) -> list[int]:
        raise AssertionError("encoded")

    monkeypatch.setattr(world.texts.tokenizer, "encode", encode)
    text = "x" * ((1 << 16) + 1)
    prompt = f'"prompt":"{text}"'
    messages = f'"messages":[{{"role":"user","content":"{text}"}}]'
    body = f'{{"model":"alpha",{prompt if path == COMPLETIONS else messages}}}'
    response = ask(world, path, body.encode())
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert world.is_all_given_back()
