"""A call of the model as a step of its own: rows of the step, each at its place in the call."""

import inspect
from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from service.core import NO_SLOT
from service.step import Segment, Step

PADDING = -1
"""A place of a call that holds no row of the step."""


def call_of(step: Step, segments: list[Segment], num_decode: int, places: list[int]) -> Step:
    """The step that consists of the rows `places`, some of them padding; `segments` lie in it."""
    place_of = {row: place for place, row in enumerate(places) if row != PADDING}
    return replace(
        step,
        token_ids=[0 if row == PADDING else step.token_ids[row] for row in places],
        positions=[0 if row == PADDING else step.positions[row] for row in places],
        row_slot=[NO_SLOT if row == PADDING else step.row_slot[row] for row in places],
        segments=[replace(one, first_row=place_of[one.first_row]) for one in segments],
        num_decode=num_decode,
        virtual_rows=[
            replace(one, row=place_of[one.row]) for one in step.virtual_rows if one.row in place_of
        ],
    )


def rows_of(segment: Segment) -> range:
    return range(segment.first_row, segment.first_row + segment.num_rows)


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a model's forward takes; many older ones lack one or the other."""

    position_ids: bool
    logits_to_keep: bool

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Accepts":
        names = inspect.signature(model.forward).parameters
        return cls("position_ids" in names, "logits_to_keep" in names)
