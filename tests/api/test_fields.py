"""Every field: what it does, which values are refused, what is accepted without effect."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.core import SamplingParams
from tests.api.conftest import World, run
from tests.fakes import FakeRegistry, adapter_ref

COMPLETION = {"model": "tiny", "prompt": "Hi", "max_tokens": 5}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
ROUTES = {"/v1/completions": COMPLETION, "/v1/chat/completions": CHAT}
BOTH = pytest.mark.parametrize("route", ROUTES)


def post(world: World, route: str, **fields: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with world.client() as client:
            return await client.post(route, json={**ROUTES[route], **fields})

    response: httpx.Response = run(ask())
    return response


def refused(response: httpx.Response, param: str | None) -> str:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param, error
    return str(error["message"])


def params_of(world: World, route: str, **fields: Any) -> SamplingParams:
    assert post(world, route, **fields).status_code == 200
    return world.engine.submitted[-1].params


@BOTH
def test_sampling_fields_reach_the_engine(world: World, route: str) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "seed": 42,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.5,
        "logit_bias": {"5": -100, "7": 1.5},
        "ignore_eos": True,
        "stop_token_ids": [1, 2],
    }
    assert params_of(world, route, **fields) == SamplingParams(
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        min_p=0.1,
        seed=42,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.5,
        logit_bias=((5, -100.0), (7, 1.5)),
        ignore_eos=True,
        stop_token_ids=(1, 2),
    )


@BOTH
def test_defaults_are_neutral(world: World, route: str) -> None:
    assert params_of(world, route) == SamplingParams(max_tokens=5)


@BOTH
def test_nulls_are_defaults(world: World, route: str) -> None:
    names = {
        "/v1/completions": "temperature top_p seed n stop logprobs echo suffix best_of user stream",
        "/v1/chat/completions": "temperature logit_bias tools tool_choice functions logprobs "
        "max_completion_tokens response_format stream_options presence_penalty",
    }
    nulls = dict.fromkeys(names[route].split())
    assert params_of(world, route, **nulls) == SamplingParams(max_tokens=5)


def test_max_tokens_by_default(world: World) -> None:
    world.engine.reply = lambda request: "x" * 1000
    assert params_of(world, "/v1/completions", max_tokens=None).max_tokens == 16
    prompt_length = len("user: Hi\n")
    chat = params_of(world, "/v1/chat/completions", max_tokens=None)
    assert chat.max_tokens == 128 - prompt_length
    assert params_of(world, "/v1/completions", prompt="x" * 120, max_tokens=None).max_tokens == 7


def test_max_completion_tokens(world: World) -> None:
    fields = {"max_tokens": None, "max_completion_tokens": 3}
    assert params_of(world, "/v1/chat/completions", **fields).max_tokens == 3
    contradiction = post(world, "/v1/chat/completions", max_tokens=4, max_completion_tokens=3)
    refused(contradiction, "max_tokens")


@BOTH
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", 1.1),
        ("top_k", -2),
        ("top_k", 1.5),
        ("min_p", 2),
        ("seed", 1 << 64),
        ("seed", 1.5),
        ("n", 0),
        ("n", 17),
        ("n", "2"),
        ("max_tokens", -1),
        ("max_tokens", "5"),
        ("stop", [""]),
        ("stop", ""),
        ("stop", ["x"] * 17),
        ("stop", "x" * 257),
        ("stop", 5),
        ("stop", [5]),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0),
        ("logit_bias", {"5": 101}),
        ("logit_bias", {"five": 1}),
        ("logit_bias", {"300": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", [1]),
        ("stop_token_ids", [300]),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", ["a"]),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("logprobs", 21),
        ("ignore_eos", 1),
        ("model", 5),
        ("model", None),
        ("model", "x" * 600),
    ],
)
def test_wrong_values_are_named(world: World, route: str, field: str, value: Any) -> None:
    response = post(world, route, **{field: value})
    message = refused(response, response.json()["error"]["param"])
    param = response.json()["error"]["param"]
    assert param == field or param.startswith((f"{field}[", f"{field}."))
    assert message
    assert world.engine.submitted == []


NOT_SUPPORTED = {
    "min_tokens": 3,
    "length_penalty": 0.5,
    "use_beam_search": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "truncate_prompt_tokens": 5,
    "bad_words": ["x"],
    "allowed_token_ids": [1],
    "structured_outputs": {"json": {}},
    "response_format": {"type": "json_object"},
}
NOT_SUPPORTED_IN_COMPLETIONS = {"suffix": "end", "best_of": 3}
NOT_SUPPORTED_IN_CHAT = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "x"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "web_search_options": {},
    "echo": True,
    "continue_final_message": True,
    "chat_template": "{{ messages }}",
    "documents": [{"text": "x"}],
}


@pytest.mark.parametrize(
    ("route", "field", "value"),
    [(route, *item) for route in ROUTES for item in NOT_SUPPORTED.items()]
    + [("/v1/completions", *item) for item in NOT_SUPPORTED_IN_COMPLETIONS.items()]
    + [("/v1/chat/completions", *item) for item in NOT_SUPPORTED_IN_CHAT.items()],
)
def test_what_would_change_the_output_is_refused_by_name(
    world: World, route: str, field: str, value: Any
) -> None:
    assert field in refused(post(world, route, **{field: value}), field)


WITHOUT_EFFECT = {
    "user": "somebody",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "auto",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "x"},
    "response_format": {"type": "text"},
    "logit_bias": {},
    "skip_special_tokens": True,
    "min_tokens": 0,
    "length_penalty": 1,
    "stop": [],
    "top_k": -1,
}


@pytest.mark.parametrize(
    ("route", "field", "value"),
    [(route, *item) for route in ROUTES for item in WITHOUT_EFFECT.items()]
    + [("/v1/completions", "best_of", 1), ("/v1/completions", "suffix", "")]
    + [
        ("/v1/chat/completions", "tools", []),
        ("/v1/chat/completions", "tool_choice", "none"),
        ("/v1/chat/completions", "functions", []),
        ("/v1/chat/completions", "modalities", ["text"]),
        ("/v1/chat/completions", "verbosity", "medium"),
    ],
)
def test_neutral_values_are_accepted(world: World, route: str, field: str, value: Any) -> None:
    assert params_of(world, route, **{field: value}) == SamplingParams(max_tokens=5)


def test_best_of_equal_to_n_selects_nothing(world: World) -> None:
    assert post(world, "/v1/completions", n=2, best_of=2).status_code == 200
    refused(post(world, "/v1/completions", n=2, best_of=1), "best_of")


@BOTH
def test_unknown_fields_are_named_all_at_once(world: World, route: str) -> None:
    message = refused(post(world, route, zebra=1, aardvark=None), "zebra")
    assert message == "Unknown fields: aardvark, zebra."


def test_any_field_name_can_be_shown(world: World) -> None:
    name = '"Zebra\\u00e9 ' + "x" * 5000 + '"'
    response = post_raw(world, "/v1/completions", f'{{{name}: 1, "model": "tiny"}}'.encode())
    assert refused(response, response.json()["error"]["param"]).startswith("Unknown fields: Zebra")
    assert len(response.text) < 500


@pytest.mark.parametrize(
    "prompt",
    ["Hi", ["Hi"], [256, 72, 105], [[256, 72, 105]]],
    ids=["text", "texts", "ids", "lists of ids"],
)
def test_the_four_forms_of_a_prompt(world: World, prompt: Any) -> None:
    response = post(world, "/v1/completions", prompt=prompt)
    assert response.json()["choices"][0]["text"] == "I am "
    assert world.engine.submitted[0].prompt_ids == (256, 72, 105)


@pytest.mark.parametrize(
    "prompt", [None, 5, [], [[]], [""], ["a", 5], {"a": 1}, [1.5], [True], [[1], "a"]]
)
def test_other_forms_are_refused(world: World, prompt: Any) -> None:
    if prompt == [""]:
        world.texts.tokenizer.encode = lambda text, add_special_tokens: []  # type: ignore[method-assign]
    refused(post(world, "/v1/completions", prompt=prompt), "prompt")


@pytest.mark.parametrize("token_id", [-1, 300, 1 << 40])
def test_token_ids_outside_the_vocabulary(world: World, token_id: int) -> None:
    message = refused(post(world, "/v1/completions", prompt=[1, token_id]), "prompt")
    assert str(token_id) in message
    assert "300" in message


def test_several_prompts_with_several_choices(world: World) -> None:
    world.engine.reply = lambda request: f"{bytes(request.prompt_ids[1:]).decode()}{request.choice}"
    body = post(world, "/v1/completions", prompt=["a", "b"], n=2).json()
    assert [one["text"] for one in body["choices"]] == ["a0", "a1", "b0", "b1"]
    assert [one["index"] for one in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 12,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert len({one.request_id for one in world.engine.submitted}) == 4
    assert world.is_all_given_back()


def test_the_number_of_sequences_is_bounded(world: World) -> None:
    refused(post(world, "/v1/completions", prompt=["a"] * 9, n=16), "n")
    refused(post(world, "/v1/completions", prompt=["a"] * 129), "prompt")


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "Hi",
        ["Hi"],
        [{"role": "user"}],
        [{"content": "Hi"}],
        [{"role": "tool", "content": "Hi"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "Hi", "colour": "red"}],
        [{"role": "assistant", "content": "Hi", "tool_calls": [{"id": "x"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": ["Hi"]}],
    ],
)
def test_wrong_messages(world: World, messages: Any) -> None:
    response = post(world, "/v1/chat/completions", messages=messages)
    refused(response, response.json()["error"]["param"])
    assert response.json()["error"]["param"].startswith("messages")


def test_right_messages(world: World) -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
        {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Go on.", "name": "Kim"},
    ]
    assert post(world, "/v1/chat/completions", messages=messages).status_code == 200
    prompt = bytes(world.engine.submitted[0].prompt_ids).decode()
    assert prompt == "system: Be kind.\nuser: Hi\nassistant: Yes?\nuser: Go on.\n"


def test_no_chat_template(world: World) -> None:
    world.texts.tokenizer._has_chat_template = False
    message = refused(post(world, "/v1/chat/completions"), "messages")
    assert "no chat template" in message
    assert world.is_all_given_back()


def test_too_long_a_prompt_is_told_both_numbers(world: World) -> None:
    response = post(world, "/v1/completions", model="alpha", prompt="x" * 200)
    message = refused_with_code(response, "context_length_exceeded")
    assert "128" in message
    assert "201" in message
    response = post(world, "/v1/completions", prompt="x" * 100, max_tokens=50)
    assert response.json()["error"]["param"] == "max_tokens"
    refused_with_code(
        post(world, "/v1/chat/completions", max_tokens=500), "context_length_exceeded"
    )
    assert world.is_all_given_back()
    assert world.engine.submitted == []


def refused_with_code(response: httpx.Response, code: str) -> str:
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    return str(response.json()["error"]["message"])


def test_a_long_prompt_is_encoded_beside_the_event_loop(world: World) -> None:
    from dataclasses import replace

    world.base = replace(world.base, max_model_len=10_000)
    assert post(world, "/v1/completions", prompt="x" * 5000).status_code == 200
    assert len(world.engine.submitted[0].prompt_ids) == 5001


@pytest.mark.parametrize(
    ("stop", "text"),
    [("am", "I "), (["base", "am"], "I "), ("choice 0.", "I am base, "), ("nothing", None)],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_stop_strings(world: World, stop: Any, text: str | None, is_streamed: bool) -> None:
    response = post(world, "/v1/completions", stop=stop, max_tokens=100, stream=is_streamed)
    shown, reasons = text_of(response, is_streamed)
    assert shown == ("I am base, choice 0." if text is None else text)
    assert reasons == ["stop"]
    assert world.is_all_given_back()
    assert len(world.engine.aborted) == (text is not None)


def text_of(response: httpx.Response, is_streamed: bool) -> tuple[str, list[str]]:
    import json

    if not is_streamed:
        choice = response.json()["choices"][0]
        return choice["text"], [choice["finish_reason"]]
    frames = response.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    choices = [json.loads(one.removeprefix("data: "))["choices"][0] for one in frames[:-2]]
    reasons = [one["finish_reason"] for one in choices if one["finish_reason"]]
    return "".join(one["text"] for one in choices), reasons


def test_usage_counts_the_tokens_up_to_the_stop(world: World) -> None:
    usage = post(world, "/v1/completions", stop="am", max_tokens=100).json()["usage"]
    assert usage["completion_tokens"] == len("I am")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(("max_tokens", "text"), [(4, "HiI am"), (0, "Hi")])
def test_echo(world: World, is_streamed: bool, max_tokens: int, text: str) -> None:
    response = post(world, "/v1/completions", echo=True, max_tokens=max_tokens, stream=is_streamed)
    assert text_of(response, is_streamed) == (text, ["length"])
    if not is_streamed:
        assert response.json()["usage"]["completion_tokens"] == max_tokens


def test_a_stop_string_in_the_echoed_prompt_stops_nothing(world: World) -> None:
    response = post(world, "/v1/completions", echo=True, prompt="amen", stop="am", max_tokens=50)
    assert response.json()["choices"][0]["text"] == "amenI "


def test_completion_logprobs(world: World) -> None:
    choice = post(world, "/v1/completions", logprobs=2, max_tokens=2).json()["choices"][0]
    assert choice["logprobs"] == {
        "tokens": ["I", " "],
        "token_logprobs": [-0.25, -0.25],
        "top_logprobs": [{"I": -0.25, "J": -1.25}, {" ": -0.25, "!": -1.25}],
        "text_offset": [0, 1],
    }
    assert world.engine.submitted[0].params.prompt_logprobs is None


def test_echoed_logprobs_cover_the_prompt(world: World) -> None:
    choice = post(world, "/v1/completions", logprobs=1, echo=True, max_tokens=1).json()["choices"][
        0
    ]
    assert choice["text"] == "HiI"
    assert choice["logprobs"] == {
        "tokens": ["<256>", "H", "i", "I"],
        "token_logprobs": [None, -0.25, -0.25, -0.25],
        "top_logprobs": [None, {"H": -0.25}, {"i": -0.25}, {"I": -0.25}],
        "text_offset": [0, 0, 1, 2],
    }


def test_scoring_a_prompt_generates_nothing(world: World) -> None:
    fields = {"logprobs": 0, "echo": True, "max_tokens": 0}
    body = post(world, "/v1/completions", **fields).json()
    assert body["choices"][0]["logprobs"]["token_logprobs"] == [None, -0.25, -0.25]
    assert body["choices"][0]["text"] == "Hi"
    assert body["usage"]["completion_tokens"] == 0
    assert world.is_all_given_back()


def test_chat_logprobs(world: World) -> None:
    fields = {"logprobs": True, "top_logprobs": 2, "max_tokens": 1}
    choice = post(world, "/v1/chat/completions", **fields).json()["choices"][0]
    assert choice["logprobs"]["content"] == [
        {
            "token": "I",
            "logprob": -0.25,
            "bytes": [73],
            "top_logprobs": [
                {"token": "I", "logprob": -0.25, "bytes": [73]},
                {"token": "J", "logprob": -1.25, "bytes": [74]},
            ],
        }
    ]
    refused(post(world, "/v1/chat/completions", top_logprobs=2), "top_logprobs")


def test_logprobs_of_parts_of_characters(world: World) -> None:
    world.engine.reply = lambda request: "é"
    fields = {"logprobs": True, "max_tokens": 50}
    content = post(world, "/v1/chat/completions", **fields).json()["choices"][0]["logprobs"][
        "content"
    ]
    assert [one["token"] for one in content] == ["bytes:\\xc3", "bytes:\\xa9"]
    assert bytes(content[0]["bytes"] + content[1]["bytes"]).decode() == "é"


def test_logprobs_are_cut_with_the_text(world: World) -> None:
    choice = post(world, "/v1/completions", logprobs=0, stop="am", max_tokens=50).json()["choices"][
        0
    ]
    assert choice["text"] == "I "
    assert choice["logprobs"]["tokens"] == ["I", " "]


def test_stop_token_ids_are_not_shown(world: World) -> None:
    choice = post(
        world, "/v1/completions", stop_token_ids=[ord("m")], max_tokens=50, logprobs=0
    ).json()["choices"][0]
    assert choice["text"] == "I a"
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["tokens"] == ["I", " ", "a"]


def post_raw(world: World, route: str, content: bytes) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with world.client() as client:
            headers = {"content-type": "application/json"}
            return await client.post(route, content=content, headers=headers)

    response: httpx.Response = run(ask())
    return response


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"null", b"\xff", b"[" * 100_000])
@BOTH
def test_bodies_that_are_no_object(world: World, route: str, content: bytes) -> None:
    response = post_raw(world, route, content)
    refused(response, None)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/completions", b'{"model": "tiny", "prompt": "\\ud800"}'),
        (
            "/v1/chat/completions",
            b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        ),
    ],
)
def test_half_a_surrogate_pair_is_no_text(world: World, route: str, body: bytes) -> None:
    assert "Unicode" in str(post_raw(world, route, body).json())
    assert post_raw(world, route, body).status_code == 400


@BOTH
def test_a_task_of_a_multitask_adapter(world: World, route: str) -> None:
    world.registry = FakeRegistry(replace(adapter_ref("many"), num_tasks=2))
    assert post(world, route, model="many", task_id=1).status_code == 200
    assert world.engine.submitted[-1].task_id == 1
    for wrong in (None, -1, 2, 1 << 63):
        refused(post(world, route, model="many", task_id=wrong), "task_id")
    for wrong in ("1", 1.0, True):
        refused(post(world, route, model="many", task_id=wrong), "task_id")
    refused(post(world, route, task_id=0), "task_id")


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_usage_says_how_much_of_the_prompt_was_cached(
    world: World, route: str, stream: bool
) -> None:
    """A prompt counts once: what its other choices found was computed by the first."""
    world.engine.num_cached_tokens = lambda request: 2 + 10 * request.choice
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = post(world, route, n=3, **options)
    assert response.status_code == 200
    lines = [line for line in response.text.splitlines() if "prompt_tokens_details" in line]
    usage = json.loads(lines[0].removeprefix("data: "))["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}


def test_cached_tokens_of_several_prompts_are_added(world: World) -> None:
    world.engine.num_cached_tokens = lambda request: len(request.prompt_ids)
    usage = post(world, "/v1/completions", prompt=["a", "bc"], n=2).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2 + 3}
    assert usage["prompt_tokens"] == 5
