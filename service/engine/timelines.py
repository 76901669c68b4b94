"""When what happened to a sequence. Pure: moments are passed in, so that a step asks the clock
twice however many sequences it runs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from service.core import Timeline, TokenEvent
from service.engine.sequence import Sequence


def mark_arrived(sequence: Sequence, now: float) -> None:
    sequence.timeline = Timeline(arrived=now)


def mark_found(sequence: Sequence, tier: str) -> None:
    sequence.timeline = replace(sequence.timeline, tier=tier)


def mark_cold(sequence: Sequence) -> None:
    """Its adapter is read from the disk, if not for the first time then again.

    Whoever has run before keeps the moments of its first time: the rest shows as decode.
    """
    if sequence.timeline.admitted is None:
        sequence.timeline = replace(sequence.timeline, tier="disk", in_memory=None)


def mark_in_memory(sequence: Sequence, now: float) -> None:
    if sequence.timeline.in_memory is None:
        sequence.timeline = replace(sequence.timeline, in_memory=now)


def mark_loaded(sequence: Sequence) -> None:
    """It was the first to wait for what has been read now."""
    assert sequence.adapter is not None
    loaded_bytes = sequence.timeline.loaded_bytes + sequence.adapter.compiled_bytes
    sequence.timeline = replace(sequence.timeline, loaded_bytes=loaded_bytes)


def mark_started(sequences: Iterable[Sequence], now: float) -> None:
    """A second start tells of a preemption; the first one stays."""
    for sequence in sequences:
        before = sequence.timeline
        if before.admitted is None:
            sequence.timeline = replace(before, admitted=now)
        else:
            sequence.timeline = replace(before, is_preempted=True)


def stamp(
    sequences: Mapping[str, Sequence], events: Iterable[TokenEvent], now: float
) -> list[TokenEvent]:
    """Events between the first token and the end stay as they are, without a further look: they
    are the many, in every step."""
    return [
        event
        if event.num_cached_tokens is None and event.finish_reason is None
        else _stamped(sequences[event.request_id], event, now)
        for event in events
    ]


def _stamped(sequence: Sequence, event: TokenEvent, now: float) -> TokenEvent:
    timeline = replace(sequence.timeline, last_token=now)
    if timeline.first_token is None:
        timeline = replace(timeline, first_token=now)
    sequence.timeline = timeline
    return replace(event, timeline=timeline)
