"""The solo lane: one sequence per call, its past in the model's own form.

For whatever keeps more than keys and values of its past: state-space and hybrid models.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from service.base import LaneName
from service.model.context import StepContext
from service.model.lanes.calls import Accepts, call_of, rows_of
from service.operator.tables import layers_of
from service.step import PrefixWrite, Segment, Step

STATE_NAMES = ("past_key_values", "cache_params", "state")
"""What a model may call its past, in its output as in its arguments."""


class SoloLane:
    name: LaneName = "solo"
    store = None

    def __init__(self, model: PreTrainedModel, context: StepContext) -> None:
        self._model = model
        self._context = context
        self._device = model.device
        self._accepts = Accepts.of(model)
        self._states: dict[str, dict[str, Any]] = {}
        """By request id the model's past of it, under the model's name for it."""

    def forget(self, request_id: str) -> None:
        self._states.pop(request_id, None)

    @torch.inference_mode()
    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        parts = []
        for segment in step.segments:
            rows = rows_of(segment)
            here = [row - rows.start for row in wanted if row in rows]
            parts.append(self._call(step, segment, here))
        return torch.cat(parts)

    def _call(self, step: Step, segment: Segment, wanted: list[int]) -> torch.Tensor:
        """Logits `[len(wanted), vocab]`; `wanted` counts from the segment's first row."""
        is_decode = segment.first_row < step.num_decode
        call = call_of(step, [segment], int(is_decode), list(rows_of(segment)))
        self._context.begin(call, wanted, torch.empty(0, dtype=torch.long))
        index = torch.tensor(wanted, dtype=torch.long, device=self._device)
        options = self._past(step, segment)
        if self._accepts.position_ids:
            options["position_ids"] = torch.tensor([call.positions], device=self._device)
        if self._accepts.logits_to_keep:
            options["logits_to_keep"] = index
        ids = torch.tensor([call.token_ids], device=self._device)
        output = self._model(input_ids=ids, use_cache=True, **options)
        self._states[segment.request_id] = state_of(output)
        logits: torch.Tensor = output.logits[0]
        return logits if self._accepts.logits_to_keep else logits[index]

    def _past(self, step: Step, segment: Segment) -> dict[str, Any]:
        """The first rows of a sequence begin anew, whatever was kept under its name."""
        prefixes = [one for one in step.prefix_writes if one.block_table is segment.block_table]
        if prefixes:
            return {"past_key_values": self._prefix(prefixes[0])}
        return {} if segment.context_len == 0 else dict(self._states[segment.request_id])

    def _prefix(self, write: PrefixWrite) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        for layer, parts in layers_of(self._context.tables[write.slot], "prefix").items():
            keys, values = (parts[name].transpose(0, 1)[None] for name in ("key", "value"))
            cache.update(keys, values, layer)
        return cache


def state_of(output: Any) -> dict[str, Any]:
    """The past that a model returns, to be given back to it."""
    found = {name: getattr(output, name, None) for name in STATE_NAMES}
    return {name: state for name, state in found.items() if state is not None}
