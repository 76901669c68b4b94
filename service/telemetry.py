"""Logging, and what is known of a request. Prompts and completions are never logged."""

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from service.core import Phase, Timeline
from service.metrics import Metrics


def configure_logging(level: str, log_format: Literal["console", "json"]) -> None:
    """One stream of lines on stderr, those of other libraries included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "filelock", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _renderers(log_format: Literal["console", "json"]) -> list[Any]:
    if log_format == "json":
        # Locals of a frame may hold a prompt, so only the plain traceback is written.
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


@dataclass(slots=True)
class RequestRecord:
    """What the access log says of one request; filled by whoever learns it. No content."""

    request_id: str
    tenant: str | None = None
    key_id: str | None = None
    """Public id of the managed key that was sent."""
    started: float = field(default_factory=time.monotonic)
    model: str | None = None
    adapter: str | None = None
    version: int | None = None
    num_prompt_tokens: int | None = None
    num_generated_tokens: int | None = None
    seconds_to_first_token: float | None = None
    timeline: Timeline | None = None
    """Of the slowest of its sequences."""
    phases: list[Phase] = field(default_factory=list)
    """Of an upload: receive, compile, verify, commit."""
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        values = {
            "tenant": self.tenant,
            "key": self.key_id,
            "model": self.model,
            "adapter": self.adapter,
            "version": self.version,
            "prompt_tokens": self.num_prompt_tokens,
            "generated_tokens": self.num_generated_tokens,
            "ttft_s": self.seconds_to_first_token and round(self.seconds_to_first_token, 4),
            **_timings(self.timeline),
            **_milliseconds(self.phases),
            "error": self.error,
        }
        return {name: value for name, value in values.items() if value is not None}


def _timings(timeline: Timeline | None) -> dict[str, Any]:
    if timeline is None:
        return {}
    phases = _milliseconds(timeline.phases())
    return {"tier": timeline.tier or None, **phases, "preempted": timeline.is_preempted or None}


def _milliseconds(phases: Iterable[Phase]) -> dict[str, float]:
    return {f"{one.name}_ms": round(one.seconds * 1000, 1) for one in phases}


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What a tracer is told."""

    method: str
    endpoint: str
    """The route's template."""
    status: int
    ended: float
    """Monotonic seconds."""
    headers: Mapping[str, str]
    """As they came, names in lower case: they may say which trace it belongs to."""
    record: RequestRecord


class Tracer(Protocol):
    def record(self, request: FinishedRequest) -> str | None:
        """The id of the trace, for the log; None where there is none."""

    def close(self) -> None:
        """Blocking."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is handed to whoever measures or logs."""

    metrics: Metrics
    log: Any
    """A structlog logger; its own types change with the configuration."""
    tracer: Tracer | None = None
    """None unless a collector is configured."""
