"""Headers, metrics by adapter and traces of a real server tell the same story."""

import re

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.observed import Observed


def children(observed: Observed, parent: Span) -> dict[str, Span]:
    return {one.name: one for one in observed.spans if one.parent_span_id == parent.span_id}


def said(span: Span) -> dict[str, object]:
    values = {one.key: one.value for one in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def completions(observed: Observed) -> list[Span]:
    """Those that were answered."""
    found = [one for one in observed.spans if one.name == "POST /v1/completions"]
    return [one for one in found if said(one)["http.response.status_code"] == 200]


def test_the_first_request_loads_and_the_second_finds_the_adapter_on_the_device(
    observed: Observed,
) -> None:
    assert observed.headers["task 0"]["x-adapter-tier"] == "disk"
    assert observed.headers["task 1"]["x-adapter-tier"] == "device"
    first, second = completions(observed)[:2]
    assert list(children(observed, first)) == ["load", "queue", "prefill", "decode"]
    assert list(children(observed, second)) == ["queue", "prefill", "decode"]
    assert said(first)["repertoire.adapter.tier"] == "disk"


def test_spans_and_headers_tell_the_same_times(observed: Observed) -> None:
    told = dict(re.findall(r"(\w+);dur=([\d.]+)", observed.headers["task 0"]["server-timing"]))
    for name, span in children(observed, completions(observed)[0]).items():
        milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert milliseconds == pytest.approx(float(told[name]), abs=0.06)


def test_spans_count_the_tokens_of_each_model(observed: Observed) -> None:
    for span in completions(observed):
        about = said(span)
        assert (about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"]) == (4, 8)
    names = [said(one)["gen_ai.request.model"] for one in completions(observed)]
    assert names[:3] == ["task", "task", "gone"]


def test_an_upload_is_traced_by_its_parts(observed: Observed) -> None:
    uploads = [one for one in observed.spans if one.name == "POST /v1/adapters"]
    assert len(uploads) == 2
    for upload in uploads:
        assert list(children(observed, upload)) == ["receive", "compile", "commit"]


def test_a_deleted_adapter_leaves_the_metrics(observed: Observed) -> None:
    counted = re.findall(
        r'^repertoire_adapter_requests_total\{adapter="(\S+?)"', observed.metrics, re.M
    )
    assert set(counted) == {"task", "tiny-llama"}
    line = 'adapter="task",outcome="completed",tenant="default",version="1"} 2.0'
    assert line in observed.metrics


def test_who_is_turned_away_is_counted(observed: Observed) -> None:
    assert 'repertoire_tenant_limited_requests_total{tenant="default"} 1.0' in observed.metrics
