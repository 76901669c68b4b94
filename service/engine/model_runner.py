"""One step through the model: rows in, tokens out. Owns no policy."""

import torch

from service.model import sampler
from service.model.first_pages import provide_first_pages
from service.model.lanes.lane import Lane
from service.step import Step, StepResult


class ModelRunner:
    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def prepare(self) -> None:
        """What makes the first steps as fast as later ones, and may go on beside them."""
        if self._lane.store is not None:
            provide_first_pages(self._lane.store)

    def forget(self, request_id: str) -> None:
        """The sequence's blocks are free: whatever else the lane keeps of it is too."""
        self._lane.forget(request_id)

    def run(self, step: Step) -> StepResult:
        wanted = sorted(
            {one.row for one in step.samples}
            | {one.row for one in step.prompt_scores}
            | {one.row for one in step.kept_rows}
        )
        logits = self._lane.run(step, wanted)
        place = {row: index for index, row in enumerate(wanted)}
        return StepResult(
            tokens=sampler.sample(
                _rows(logits, [place[one.row] for one in step.samples]), step.samples
            ),
            prompt_logprobs=sampler.score(
                _rows(logits, [place[one.row] for one in step.prompt_scores]), step.prompt_scores
            ),
            kept=[logits[place[one.row]].float().cpu().numpy() for one in step.kept_rows],
        )


def _rows(logits: torch.Tensor, places: list[int]) -> torch.Tensor:
    if len(places) == logits.shape[0] and places == sorted(places):
        return logits
    return logits[torch.tensor(places, dtype=torch.long, device=logits.device)]
