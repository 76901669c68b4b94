"""One real server, seen from outside: what it exposes to Prometheus and sends to a collector."""

from dataclasses import dataclass
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector import collector, spans_of
from tests.e2e import tiny_adapters as tiny
from tests.server import Server, free_port

PROMPT = [5, 9, 40, 77]
ASKED = ("task", "task", "gone", "tiny-llama")
"""And then once more than the tenant may."""


@dataclass(frozen=True)
class Observed:
    metrics: str
    """After uploads, requests for `task`, `gone` and the base, and the deletion of `gone`."""
    headers: dict[str, httpx.Headers]
    """Of the answers, by `<model> <which time>`."""
    spans: list[Span]
    """After the end of the server."""


def observe(base_folder: Path, work: Path) -> Observed:
    received: list[ExportTraceServiceRequest] = []
    port = free_port()
    with collector(received) as url:
        settings = {"metrics_port": port, "otlp_endpoint": url}
        settings |= {"tenant_requests_per_minute": len(ASKED)}
        with Server(base_folder, work, **settings) as server:
            for seed, name in enumerate(("task", "gone")):
                assert server.upload(name, tiny.write(work / name, seed)).status_code == 201
            headers = {f"{name} {i}": ask(server, name).headers for i, name in enumerate(ASKED)}
            assert ask(server, "task").status_code == 429
            assert server.client.delete("/v1/adapters/gone").status_code == 200
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            assert server.terminate() == 0
    return Observed(metrics, headers, spans_of(received))


def ask(server: Server, model: str) -> httpx.Response:
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 8}
    return server.client.post("/v1/completions", json=body | {"ignore_eos": True})
