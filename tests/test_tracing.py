"""Spans of requests: whose child they are, what they say, and that they say no word of a prompt."""

import subprocess
import sys
import time
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import bootstrap, tracing
from service.core import Phase
from service.errors import ConfigurationError, EngineFailed
from service.settings import Settings
from service.telemetry import FinishedRequest, RequestRecord
from service.tracing import SpanTracer, otlp_tracer
from tests.api.conftest import World, run
from tests.collector import collector, spans_of
from tests.server import free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "nobody may read this"
COMPLETION = {"model": "alpha", "prompt": SECRET, "max_tokens": 4}


class Scene:
    def __init__(self) -> None:
        self.world = World()
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.world.tracer = SpanTracer(provider, self._spans)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        async def work() -> httpx.Response:
            async with self.world.client() as client:
                return await client.post(path, json=body, headers=headers)

        response: httpx.Response = run(work())
        return response

    def spans(self) -> dict[str, ReadableSpan]:
        return {one.name: one for one in self._spans.get_finished_spans()}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_request_is_one_span_with_its_phases_as_children(scene: Scene) -> None:
    scene.world.engine.tier, scene.world.engine.load_seconds = "disk", lambda request: 0.25
    began = time.time_ns()
    scene.post("/v1/completions", COMPLETION)
    spans = scene.spans()
    root = spans.pop("POST /v1/completions")
    assert root.kind is SpanKind.SERVER
    assert root.parent is None
    assert abs(root.start_time - began) < 1e9
    assert sorted(spans, key=lambda name: spans[name].start_time) == [
        "load", "queue", "prefill", "decode",
    ]  # fmt: skip
    for child in spans.values():
        assert child.parent is not None
        assert child.parent.span_id == root.context.span_id
    assert spans["load"].end_time == spans["queue"].start_time
    assert spans["load"].end_time - spans["load"].start_time == pytest.approx(0.25e9, abs=1e6)
    assert spans["decode"].end_time <= root.end_time


def test_what_a_span_says(scene: Scene) -> None:
    scene.post("/v1/completions", COMPLETION)
    said = dict(scene.spans()["POST /v1/completions"].attributes or {})
    assert said.pop("gen_ai.response.time_to_first_chunk") > 0
    assert said.pop("repertoire.request_id")
    assert said == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "repertoire",
        "gen_ai.request.model": "alpha",
        "gen_ai.usage.input_tokens": 1 + len(SECRET),
        "gen_ai.usage.output_tokens": 4,
        "repertoire.tenant": "default",
        "repertoire.adapter.name": "alpha",
        "repertoire.adapter.version": 2,
        "repertoire.adapter.tier": "device",
        "repertoire.preempted": False,
    }


def test_no_word_of_prompt_or_completion_is_in_any_span(scene: Scene) -> None:
    scene.post("/v1/completions", COMPLETION)
    chat = {"model": "beta", "messages": [{"role": "user", "content": SECRET}], "stream": True}
    scene.post("/v1/chat/completions", chat)
    everything = "".join(one.to_json() for one in scene.spans().values())
    assert "POST /v1/chat/completions" in everything
    assert SECRET not in everything
    assert "I am" not in everything


def test_the_callers_trace_goes_on(scene: Scene) -> None:
    with structlog.testing.capture_logs() as lines:
        scene.post("/v1/completions", COMPLETION, traceparent=f"00-{TRACE}-{PARENT}-01")
    root = scene.spans()["POST /v1/completions"]
    assert f"{root.context.trace_id:032x}" == TRACE
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == PARENT
    assert next(one for one in lines if one["event"] == "request")["trace_id"] == TRACE


def test_what_the_caller_does_not_sample_is_not_traced(scene: Scene) -> None:
    with structlog.testing.capture_logs() as lines:
        scene.post("/v1/completions", COMPLETION, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert scene.spans() == {}
    assert "trace_id" not in next(one for one in lines if one["event"] == "request")


@pytest.mark.parametrize("sent", ["", "x", f"00-{'0' * 32}-{PARENT}-01", "00-" + "f" * 4000])
def test_a_broken_traceparent_begins_a_new_trace(scene: Scene, sent: str) -> None:
    assert scene.post("/v1/completions", COMPLETION, traceparent=sent).status_code == 200
    assert scene.spans()["POST /v1/completions"].parent is None


def test_failures_are_told_by_the_error_s_name(scene: Scene) -> None:
    scene.world.engine.error_after = (1, EngineFailed("broken"))
    scene.post("/v1/completions", COMPLETION)
    root = scene.spans()["POST /v1/completions"]
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes["error.type"] == "EngineFailed"


def test_a_client_s_mistake_is_no_error_of_ours(scene: Scene) -> None:
    scene.post("/v1/completions", COMPLETION | {"model": "nobody"})
    root = scene.spans()["POST /v1/completions"]
    assert root.status.status_code is StatusCode.UNSET
    assert root.attributes["http.response.status_code"] == 404
    assert root.attributes["gen_ai.request.model"] == "nobody"


def test_words_of_a_client_are_cut(scene: Scene) -> None:
    record = RequestRecord("r1", model="x" * 5000)
    now = time.monotonic()
    scene.world.tracer.record(FinishedRequest("POST", "/v1/completions", 404, now, {}, record))
    root = scene.spans()["POST /v1/completions"]
    assert len(root.attributes["gen_ai.request.model"]) == 256


def test_probes_are_not_traced(scene: Scene) -> None:
    async def work() -> None:
        async with scene.world.client() as client:
            await client.get("/health")

    run(work())
    assert scene.spans() == {}


def finished(phases: list[Phase]) -> FinishedRequest:
    record = RequestRecord("r1", phases=phases)
    return FinishedRequest("POST", "/v1/adapters", 201, time.monotonic(), {}, record)


@pytest.mark.parametrize("own_name", ["", "adapters-eu"])
def test_a_collector_gets_what_is_left_at_the_end(
    own_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    if own_name:
        monkeypatch.setenv("OTEL_SERVICE_NAME", own_name)
    received: list[ExportTraceServiceRequest] = []
    now = time.monotonic()
    names = ("receive", "compile", "verify", "commit")
    with collector(received) as url:
        tracer = otlp_tracer(f"{url}/", "1.2.3")
        tracer.record(finished([Phase(name, now, now + 1) for name in names]))
        tracer.close()
    (group,) = received[0].resource_spans
    resource = {one.key: one.value.string_value for one in group.resource.attributes}
    assert resource["service.name"] == (own_name or "repertoire")
    assert resource["service.version"] == "1.2.3"
    assert resource["deployment.environment.name"] == "test"
    assert {one.name for one in spans_of(received)} == {"POST /v1/adapters", *names}


def test_a_collector_that_is_away_does_not_hold_up_the_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.2)
    tracer = otlp_tracer(f"http://127.0.0.1:{free_port()}", "1.2.3")
    tracer.record(finished([]))
    began = time.monotonic()
    tracer.close()
    assert time.monotonic() - began < 2


def test_without_the_extra_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "service.tracing", None)
    settings = Settings(base_model="no-such-base", otlp_endpoint="http://127.0.0.1:4318")
    with pytest.raises(ConfigurationError, match=r"repertoire\[tracing\]"):
        bootstrap.build_services(settings)


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    code = "import sys, service.app; print([m for m in sys.modules if 'opentelemetry.sdk' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://"])
def test_an_endpoint_is_an_http_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        Settings(base_model="x", otlp_endpoint=endpoint)
