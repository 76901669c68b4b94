"""Spans of finished requests, for an OpenTelemetry collector. Imported only where one is named.

Everything a span says is known when its request is over, so nothing is traced while it runs. No
span holds a prompt or a completion.
"""

import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.core import Phase
from service.telemetry import FinishedRequest, RequestRecord

_TRACE_CONTEXT = TraceContextTextMapPropagator()
_OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
"""`gen_ai.operation.name` by route."""
CLOSE_SECONDS = 2.0
"""For what is left to be sent at the end."""
_MAX_CHARACTERS = 256
"""Of an attribute that a client chose."""


class SpanTracer:
    """A server span for each request, with a child for each of its phases."""

    def __init__(self, provider: TracerProvider, exporter: SpanExporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("repertoire")

    def record(self, request: FinishedRequest) -> str | None:
        """The id of the trace, which is the caller's if it sent one; None if it is not sampled."""
        offset = time.time_ns() - time.monotonic_ns()
        record = request.record
        span = self._tracer.start_span(
            f"{request.method} {request.endpoint}",
            context=_TRACE_CONTEXT.extract(request.headers),
            kind=SpanKind.SERVER,
            attributes=_attributes(request),
            start_time=_nanoseconds(record.started, offset),
        )
        if not span.is_recording():
            return None
        for phase in (*record.phases, *_sequence_phases(record)):
            self._add_child(span, phase, offset)
        if request.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(request.ended, offset))
        return f"{span.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Blocking, but not for long: a collector that is away would be tried again and again."""
        limit = threading.Timer(CLOSE_SECONDS, self._exporter.shutdown)
        limit.start()
        try:
            self._provider.shutdown()
        finally:
            limit.cancel()

    def _add_child(self, parent: Span, phase: Phase, offset: int) -> None:
        child = self._tracer.start_span(
            phase.name,
            context=set_span_in_context(parent),
            start_time=_nanoseconds(phase.start, offset),
        )
        child.end(_nanoseconds(phase.end, offset))


def otlp_tracer(endpoint: str, version: str) -> SpanTracer:
    """Sends in batches, from a thread, over HTTP.

    What else there is to say the standard `OTEL_…` variables say: the service's name, headers,
    sampler, time-outs.
    """
    given = OTELResourceDetector().detect().attributes
    names = {"service.name": "repertoire", "service.version": version}
    resource = Resource.create({**names, **given})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return SpanTracer(provider, exporter)


def _sequence_phases(record: RequestRecord) -> tuple[Phase, ...]:
    """Of the slowest sequence; an adapter that was there already has no load to show."""
    if record.timeline is None:
        return ()
    phases = record.timeline.phases()
    return tuple(one for one in phases if one.name != "load" or one.seconds > 0)


def _attributes(request: FinishedRequest) -> Mapping[str, str | int | float | bool]:
    record, timeline = request.record, request.record.timeline
    operation = _OPERATIONS.get(request.endpoint)
    values: dict[str, str | int | float | bool | None] = {
        "http.request.method": request.method,
        "http.route": request.endpoint,
        "http.response.status_code": request.status,
        "error.type": record.error,
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "repertoire" if operation else None,
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.num_prompt_tokens,
        "gen_ai.usage.output_tokens": record.num_generated_tokens,
        "gen_ai.response.time_to_first_chunk": record.seconds_to_first_token,
        "repertoire.request_id": record.request_id,
        "repertoire.tenant": record.tenant,
        "repertoire.adapter.name": record.adapter,
        "repertoire.adapter.version": record.version,
        "repertoire.adapter.tier": timeline.tier or None if timeline else None,
        "repertoire.preempted": timeline.is_preempted if timeline else None,
    }
    return {
        name: value[:_MAX_CHARACTERS] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _nanoseconds(moment: float, offset: int) -> int:
    return int(moment * 1e9) + offset
