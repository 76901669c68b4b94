"""What is known of an answer when it is over, handed once to whoever keeps count.

A sink is called on the event loop and must not wait; one that fails is logged and costs nobody
else anything.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from service.adapter_metrics import AdapterLabels, AdapterMetrics, AdapterSample
from service.core import AdapterRef, Timeline
from service.metrics import Metrics
from service.tenancy import Principal

_log = structlog.get_logger(__name__)

SUMS = "_sum"
"""Label of weighted sums: no adapter can be named so, and every weight would be a name."""


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

    @property
    def loaded_bytes(self) -> int:
        """Of adapters, brought into memory because of it."""
        return sum(one.loaded_bytes for one in self.timelines)


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


def adapter_metrics(metrics: AdapterMetrics, base_name: str) -> AnswerSink:
    """The base counts as an adapter without a version, all weighted sums as one."""

    def count(summary: AnswerSummary) -> None:
        name, version = name_and_version(summary.adapter, base_name)
        loads = (_load_seconds(one) for one in summary.timelines)
        sample = AdapterSample(
            outcome=summary.outcome.value,
            num_prompt_tokens=summary.num_prompt_tokens,
            num_generated_tokens=summary.num_generated_tokens,
            seconds_to_first_token=summary.seconds_to_first_token,
            load_seconds=max(loads, default=0.0),
            tiers=tuple(one.tier for one in summary.timelines if one.tier),
        )
        metrics.count(AdapterLabels(name, version, summary.tenant), sample)

    return count


def metrics_by_adapter(
    max_series: int, base_name: str, has: Callable[[str, int], bool]
) -> AdapterMetrics:
    """Of what can still be asked for; `has` knows which versions are served."""

    def is_served(labels: AdapterLabels) -> bool:
        is_adapter = labels.adapter not in (base_name, SUMS)
        return not is_adapter or has(labels.adapter, int(labels.version))

    return AdapterMetrics(max_series, is_served, tuple(one.value for one in Outcome))


def name_and_version(adapter: AdapterRef | None, base_name: str) -> tuple[str, str]:
    """As labels: both are bounded by what was published."""
    if adapter is None:
        return base_name, ""
    return (SUMS, "") if adapter.parts else (adapter.name, str(adapter.version))


def _load_seconds(timeline: Timeline) -> float:
    return next((one.seconds for one in timeline.phases() if one.name == "load"), 0.0)
