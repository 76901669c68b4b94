"""The padded lane: sequences side by side, `[B, q]`, filled up on the left, under a 2-D mask.

For attention models that do not take an attention of ours: any that keep their past in a `Cache`.
Decode rows and prompt chunks are two calls, so that a long chunk does not pad every decode row.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from service.base import LaneName
from service.model.context import StepContext
from service.model.kv_store import KVStore
from service.model.lanes.calls import PADDING, Accepts, call_of, rows_of
from service.model.lanes.padded_cache import PaddedCache
from service.model.lanes.prefixes import write_prefixes
from service.step import Segment, Step


class PaddedLane:
    name: LaneName = "padded"

    def __init__(self, model: PreTrainedModel, store: KVStore, context: StepContext) -> None:
        self._model = model
        self.store = store
        self._context = context
        self._device = model.device
        self._accepts = Accepts.of(model)

    def forget(self, request_id: str) -> None:
        """Nothing is kept but what lies in the blocks."""

    @torch.inference_mode()
    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        write_prefixes(step.prefix_writes, self._context, self.store)
        decoding, prefilling = step.segments[: step.num_decode], step.segments[step.num_decode :]
        parts = []
        for segments, num_decode in ((decoding, len(decoding)), (prefilling, 0)):
            if segments:
                first, last = segments[0].first_row, rows_of(segments[-1]).stop
                here = [row for row in wanted if first <= row < last]
                parts.append(self._call(step, segments, num_decode, here))
        return torch.cat(parts)

    def _call(
        self, step: Step, segments: list[Segment], num_decode: int, wanted: list[int]
    ) -> torch.Tensor:
        """Logits `[len(wanted), vocab]`; `wanted` are rows of the step."""
        width = max(one.num_rows for one in segments)
        places = [
            row
            for one in segments
            for row in [PADDING] * (width - one.num_rows) + list(rows_of(one))
        ]
        place_of = {row: place for place, row in enumerate(places)}
        columns = sorted({place_of[row] % width for row in wanted})
        if not self._accepts.logits_to_keep:
            columns = list(range(width))
        kept = [first + column for first in range(0, len(places), width) for column in columns]
        call = call_of(step, segments, num_decode, places)
        cache = PaddedCache(self.store, segments, width, self._device)
        self._context.begin(call, kept, cache.write_index)
        logits = self._forward(call, width, columns, cache).flatten(0, 1)
        index_of = {place: index for index, place in enumerate(kept)}
        index = [index_of[place_of[row]] for row in wanted]
        return logits[torch.tensor(index, dtype=torch.long, device=self._device)]

    def _forward(
        self, call: Step, width: int, columns: list[int], cache: PaddedCache
    ) -> torch.Tensor:
        """`[B, len(columns), vocab]`"""
        options: dict[str, Any] = {}
        if self._accepts.position_ids:
            options["position_ids"] = self._grid(call.positions, width)
        if self._accepts.logits_to_keep:
            options["logits_to_keep"] = torch.tensor(columns, dtype=torch.long, device=self._device)
        output = self._model(
            input_ids=self._grid(call.token_ids, width),
            attention_mask=cache.mask,
            past_key_values=cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = output.logits
        return logits

    def _grid(self, values: list[int], width: int) -> torch.Tensor:
        return torch.tensor(values, device=self._device).view(-1, width)
