"""What is known of an answer when it is over, handed once to whoever keeps count.

A sink is called on the event loop and must not wait; one that fails is logged and costs nobody
else anything.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from service.core import AdapterRef, Timeline
from service.telemetry import Metrics
from service.tenancy import Principal

_log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    COMPLETED = "completed"
    """Every choice has its finish reason."""
    FAILED = "failed"
    """A sequence ended with an error, its adapter's load included."""
    ABORTED = "aborted"
    """Closed before its end: the client went away."""


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """One answer, all of its prompts and choices together."""

    principal: Principal
    """Whom it was computed for."""
    request_id: str
    adapter: AdapterRef | None
    """The version that answered; None is the base."""
    num_prompt_tokens: int
    num_cached_tokens: int
    """Of the prompt tokens, found in the prefix cache."""
    num_generated_tokens: int
    outcome: Outcome
    seconds: float
    """From the request's arrival to the end of its answer."""
    seconds_to_first_token: float | None
    """From the request's arrival; None when there was no token."""
    timelines: tuple[Timeline, ...] = ()
    """Of its sequences, as far as they have told."""

    @property
    def tenant(self) -> str:
        return self.principal.tenant


AnswerSink = Callable[[AnswerSummary], object]


def hand_out(summary: AnswerSummary, sinks: Iterable[AnswerSink]) -> None:
    for sink in sinks:
        try:
            sink(summary)
        except Exception:
            _log.exception("answer_not_accounted", sink=repr(sink))


def token_metrics(metrics: Metrics) -> AnswerSink:
    def count(summary: AnswerSummary) -> None:
        metrics.generation_tokens.inc(summary.num_generated_tokens)

    return count
