"""Every error of the tree as HTTP, in OpenAI's shape, without a trace of the machine."""

import inspect
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import errors
from service.api.exceptions import SHAPES, error_response
from service.core import GenerationRequest
from tests.api.conftest import World, run

BODY = {"model": "alpha", "prompt": "Hi", "max_tokens": 8}


def ask(world: World, method: str = "POST", path: str = "/v1/completions", **fields: Any) -> Any:
    async def work() -> httpx.Response:
        async with world.client() as client:
            return await client.request(method, path, **fields)

    return run(work())


def tree() -> Iterator[type[Exception]]:
    for _, one in inspect.getmembers(errors, inspect.isclass):
        if issubclass(one, errors.RepertoireError):
            yield one


def test_every_error_of_the_tree_has_its_place() -> None:
    not_for_clients = {errors.RepertoireError, errors.ConfigurationError}
    assert {one for one in tree() if one not in SHAPES} == not_for_clients


REFUSAL = errors.Refusal("wrong_shape", "lora_A", "The tensor lora_A has another shape.")


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (errors.InvalidRequest("No.", "x"), 400, None, {}),
        (errors.PromptTooLong("No."), 400, "context_length_exceeded", {}),
        (errors.Unauthorized("No."), 401, "invalid_api_key", {"www-authenticate": "Bearer"}),
        (errors.PermissionDenied("No."), 403, "permission_denied", {}),
        (errors.ModelNotFound("m"), 404, "model_not_found", {}),
        (errors.AdapterNotFound("m"), 404, "adapter_not_found", {}),
        (errors.KeyNotFound("k"), 404, "key_not_found", {}),
        (errors.TenantNotFound("t"), 404, "tenant_not_found", {}),
        (errors.NameConflict("No."), 409, "name_conflict", {"x-should-retry": "false"}),
        (errors.RequestTooSlow("No."), 408, "request_timeout", {}),
        (errors.PreconditionFailed("No."), 412, "precondition_failed", {}),
        (errors.UploadTooLarge("No."), 413, "too_large", {}),
        (errors.UrlTooLong("No."), 414, "url_too_long", {}),
        (errors.HeadersTooLarge("No."), 431, "headers_too_large", {}),
        (errors.UnsupportedUpload("No."), 415, "unsupported_upload", {}),
        (errors.AdapterRefused((REFUSAL,)), 422, "adapter_refused", {}),
        (errors.UnknownTarget("No.", "current"), 422, "unknown_target", {}),
        (errors.AdapterLoadFailed("No."), 500, "adapter_load_failed", {}),
        (errors.EngineFailed("No."), 500, "engine_failed", {}),
        (errors.Overloaded("No.", 3), 503, "overloaded", {"retry-after": "3"}),
        (errors.Draining("No."), 503, "draining", {"retry-after": "5"}),
        (errors.ColdLoadTimeout("No."), 504, "cold_load_timeout", {"retry-after": "5"}),
        (errors.StoreFull("No."), 507, "store_full", {"x-should-retry": "false"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_table(
    error: Exception, status: int, code: str | None, headers: dict[str, str], world: World
) -> None:
    world.engine.submit_error = error
    response = ask(world, json=BODY)
    assert response.status_code == status
    body = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(body)
    assert body["code"] == code
    assert body["message"] == str(error)
    assert headers.items() <= dict(response.headers).items()
    assert world.is_all_given_back()


def test_reasons_of_a_refusal_are_machine_readable() -> None:
    body = error_response(errors.AdapterRefused((REFUSAL,))).body
    assert b'"reasons":[{"code":"wrong_shape","subject":"lora_A","message":' in bytes(body)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_failure_before_the_first_token_is_a_status(world: World, is_streamed: bool) -> None:
    world.engine.error_after = (0, errors.ColdLoadTimeout("The adapter took too long to load."))
    response = ask(world, json={**BODY, "stream": is_streamed})
    assert response.status_code == 504
    assert response.headers["retry-after"] == "5"
    assert world.is_all_given_back()


def test_a_failure_in_the_middle_of_a_whole_answer_is_a_status(world: World) -> None:
    world.engine.error_after = (3, errors.EngineFailed("The engine has failed."))
    assert ask(world, json=BODY).status_code == 500
    assert world.is_all_given_back()


def test_a_failure_in_the_middle_of_a_stream_is_its_last_event(world: World) -> None:
    world.engine.error_after = (3, errors.EngineFailed("The engine has failed."))
    response = ask(world, json={**BODY, "stream": True})
    assert response.status_code == 200
    frames = response.text.split("\n\n")
    assert len(frames) == 5
    assert frames[-2] == (
        'data: {"error":{"message":"The engine has failed.","type":"server_error",'
        '"param":null,"code":"engine_failed"}}'
    )
    assert "[DONE]" not in response.text
    assert world.is_all_given_back()


class Secret(Exception):
    pass


@pytest.mark.parametrize("where", ["submit", "event", "tokenizer"])
def test_an_unexpected_failure_says_nothing_of_the_machine(
    world: World, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = Secret("/home/somebody/model.safetensors")
    if where == "submit":
        world.engine.submit_error = error
    elif where == "event":
        world.engine.error_after = (0, error)
    else:

        def fail(*_: Any, **__: Any) -> None:
            raise error

        world.texts.tokenizer.encode = fail  # type: ignore[method-assign,assignment]
    response = ask(world, json=BODY)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "somebody" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
    assert world.is_all_given_back()


def test_an_unexpected_failure_in_a_stream(world: World) -> None:
    world.engine.error_after = (2, Secret("/home/somebody"))
    response = ask(world, json={**BODY, "stream": True})
    assert '"code":"internal_error"' in response.text
    assert "somebody" not in response.text
    assert world.is_all_given_back()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
    ],
)
def test_the_router_answers_in_the_same_shape(
    world: World, method: str, path: str, status: int, code: str
) -> None:
    response = ask(world, method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.headers["x-request-id"]


def test_a_large_body_is_not_read(world: World) -> None:
    world.settings["max_body_bytes"] = 1000
    response = ask(world, json={**BODY, "prompt": "x" * 1000})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_a_large_body_of_unknown_length_is_not_read(world: World) -> None:
    world.settings["max_body_bytes"] = 1000
    num_sent = 0

    async def chunks() -> Any:
        nonlocal num_sent
        for _ in range(100):
            num_sent += 1
            yield b"x" * 500

    response = ask(world, content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"
    assert num_sent < 10


def test_overload_half_way_aborts_what_was_queued(world: World) -> None:
    """Three choices fit the inbox, the fourth does not: none may go on."""
    world.engine.max_sequences = 3
    world.engine.max_sequences_error = errors.Overloaded("Full.", 2)
    response = ask(world, json={**BODY, "n": 4})
    assert response.status_code == 503
    assert len(world.engine.aborted) == 3
    assert world.is_all_given_back()


def test_an_unknown_model_is_never_the_base(world: World) -> None:
    for model in ["gamma", "tiny:gamma", "alpha@9", "Tiny", "tiny:tiny", "tiny@1", "", "tiny:"]:
        response = ask(world, json={**BODY, "model": model})
        assert response.status_code == 404, model
        assert response.json()["error"]["code"] == "model_not_found"
        assert response.json()["error"]["param"] == "model"
        assert repr(model) in response.json()["error"]["message"]
    assert world.engine.submitted == []


@pytest.mark.parametrize(
    ("model", "version"), [("alpha", 2), ("alpha@1", 1), ("tiny:alpha", 2), ("tiny:alpha@1", 1)]
)
def test_names_of_a_version(world: World, model: str, version: int) -> None:
    response = ask(world, json={**BODY, "model": model})
    assert response.json()["model"] == model
    assert response.headers["x-adapter-version"] == f"alpha@{version}"
    submitted: GenerationRequest = world.engine.submitted[0]
    assert submitted.adapter is not None
    assert submitted.adapter.version == version


def test_a_base_name_with_a_slash(world: World) -> None:
    from dataclasses import replace

    world.base = replace(world.base, name="org/tiny")
    assert ask(world, json={**BODY, "model": "org/tiny"}).status_code == 200
    assert ask(world, json={**BODY, "model": "org/tiny:beta"}).status_code == 200
    assert ask(world, "GET", "/v1/models/org/tiny").json()["id"] == "org/tiny"
    assert ask(world, "GET", "/v1/models/gone").status_code == 404
