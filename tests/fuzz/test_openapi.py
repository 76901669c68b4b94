"""Every route of the OpenAPI document under generated requests, right ones and wrong ones.

A route that somebody adds is taken by itself. Statuses, content types, headers and bodies must be
those of the document; 5xx must be provoked.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from service import errors
from tests.api.conftest import World
from tests.fuzz.app import EXAMPLE, FuzzedApp, upload
from tests.fuzz.cases import NUM_CASES, report

DOCUMENT = World().app().openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {one.ok().label: one.ok() for one in SCHEMA.get_all_operations()}
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
REJECTION = checks.negative_data_rejection
"""Not `positive_data_acceptance`: rules that bind two fields are sentences in the document."""
STATEFUL = {"POST /v1/adapters/{name}/restore"}
"""Need something that a request of another kind has to bring about."""


@pytest.fixture
def fuzzed(tmp_path: Path) -> FuzzedApp:
    return FuzzedApp(tmp_path)


@pytest.fixture
def client(fuzzed: FuzzedApp) -> Iterator[TestClient]:
    with fuzzed.client() as client:
        yield client


@pytest.mark.parametrize(
    "num_cases", [16, pytest.param(NUM_CASES, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_a_documented_one(
    label: str, num_cases: int, fuzzed: FuzzedApp, client: TestClient
) -> None:
    operation = OPERATIONS[label]
    statuses: Counter[int] = Counter()
    turns = count()

    @seed(num_cases)
    @settings(
        max_examples=num_cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=requests_of(operation))
    def run(case: schemathesis.Case) -> None:
        client.portal.call(fuzzed.restore)
        is_replaced = is_upload(case) and next(turns) % 2 == 0
        response = send(client, case, is_replaced)
        statuses[response.status_code] += 1
        assert response.status_code < 500, response.text
        case.validate_response(response, checks=CHECKS if is_replaced else [*CHECKS, REJECTION])

    run()
    report(label, statuses)
    if label not in STATEFUL:
        assert any(status < 400 for status in statuses), f"nothing got through: {statuses}"


PROVOKED = [
    errors.Overloaded("No."),
    errors.Draining("No."),
    errors.EngineFailed("No."),
    errors.AdapterLoadFailed("No."),
    errors.ColdLoadTimeout("No."),
    RuntimeError("a path of this machine"),
]


@pytest.mark.parametrize("error", PROVOKED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_failure_of_the_server_is_documented_too(
    error: Exception, path: str, fuzzed: FuzzedApp, client: TestClient
) -> None:
    fuzzed.world.engine.submit_error = error
    body = {"model": EXAMPLE, "prompt": "x"}
    if path.endswith("chat/completions"):
        body = {"model": EXAMPLE, "messages": [{"role": "user", "content": "x"}]}
    response = client.post(path, json=body)
    assert response.status_code in (500, 503, 504)
    assert_documented(response, "POST", path)
    assert "machine" not in response.text


def test_a_full_store_is_documented(
    fuzzed: FuzzedApp, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_room(num_bytes: int) -> None:
        raise errors.StoreFull("Full.")

    monkeypatch.setattr(fuzzed.house.store, "check_room", check_room)
    body, content_type = upload()
    response = client.post("/v1/adapters", content=body, headers={"content-type": content_type})
    assert response.status_code == 507
    assert_documented(response, "POST", "/v1/adapters")


def assert_documented(response: Any, method: str, path: str) -> None:
    case = OPERATIONS[f"{method} {path}"].Case(method=method)
    case.validate_response(response, checks=CHECKS)


def is_upload(case: schemathesis.Case) -> bool:
    return case.media_type == "multipart/form-data"


def send(client: TestClient, case: schemathesis.Case, is_replaced: bool) -> Any:
    """As bytes, because a multipart body that was streamed cannot be checked afterwards.

    No schema says what makes a file an adapter, so some uploads are replaced by right ones.
    """
    arguments = case.as_transport_kwargs(base_url="http://testserver")
    request = requests.Request(**arguments).prepare()
    body = request.body.encode() if isinstance(request.body, str) else request.body
    if is_replaced:
        body, request.headers["content-type"] = upload()
    return client.request(request.method, request.url, headers=request.headers, content=body)


@st.composite
def requests_of(draw: st.DrawFn, operation: APIOperation) -> schemathesis.Case:
    """What the schema allows and what it does not; the document's examples now and then, without
    which nearly every request would end at a name that does not exist."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    case = draw(operation.as_strategy(generation_mode=mode))
    raw = DOCUMENT["paths"][operation.path][operation.method]
    for parameter in raw.get("parameters", []):
        if parameter["in"] == "path" and draw(st.booleans()):
            case.path_parameters[parameter["name"]] = draw(example_of(parameter["schema"]))
    for content in raw.get("requestBody", {}).get("content", {}).values():
        schema = resolved(content["schema"])
        fields = schema.get("properties", {})
        if isinstance(case.body, dict) and fields and draw(st.booleans()):
            kept = {
                *schema.get("required", []),
                *draw(st.lists(st.sampled_from([*fields]), max_size=2)),
            }
            case.body = {name: value for name, value in case.body.items() if name in kept}
        if "examples" in schema and draw(st.booleans()):
            case.body = draw(example_of(schema))
        for name, field in fields.items():
            if isinstance(case.body, dict) and "examples" in field and draw(st.booleans()):
                case.body[name] = draw(example_of(field))
    return case


def example_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(schema.get("examples") or ["x"])


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
