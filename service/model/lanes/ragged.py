"""The ragged lane: all rows of a step as one sequence `[1, T]`; attention keeps them apart."""

from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from service.base import LaneName
from service.model.attention import PagedAttention, register
from service.model.context import StepContext
from service.model.kv_store import KVStore
from service.model.lanes.prefixes import write_prefixes
from service.step import Segment, Step

if TYPE_CHECKING:
    from service.model.triton.decode_graphs import DecodeGraphs


class RaggedLane:
    name: LaneName = "ragged"

    graphs: "DecodeGraphs | None" = None
    """Runs the steps that it takes."""

    def __init__(self, model: PreTrainedModel, store: KVStore, context: StepContext) -> None:
        self._model = model
        self.store = store
        self._context = context
        self._device = model.device
        model.set_attn_implementation(register(PagedAttention(context, store)))

    def forget(self, request_id: str) -> None:
        """Nothing is kept but what lies in the blocks."""

    @torch.inference_mode()
    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        if self.graphs is not None and self.graphs.takes(step):
            logits = self.graphs.run(step)
            if logits is not None:
                return logits if len(wanted) == len(logits) else logits[wanted]
        index = write_index(step.segments, self.store.block_size)
        self._context.begin(step, wanted, torch.tensor(index, device=self._device))
        write_prefixes(step.prefix_writes, self._context, self.store)
        ids = torch.tensor([step.token_ids], device=self._device)
        positions = torch.tensor([step.positions], device=self._device)
        return self._forward(ids, positions, torch.tensor(wanted, device=self._device).long())

    @torch.inference_mode()
    def forward_all(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """`[1, T]` each → logits `[T, vocab]` of the step that the context has begun."""
        return self._forward(ids, positions, 0)

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, logits_to_keep: torch.Tensor | int
    ) -> torch.Tensor:
        output = self._model(
            input_ids=ids, position_ids=positions, logits_to_keep=logits_to_keep, use_cache=False
        )
        logits: torch.Tensor = output.logits[0]
        return logits


def write_index(segments: list[Segment], block_size: int) -> list[int]:
    """The token slot in the KV store of each row, in row order."""
    return [
        segment.block_table[position // block_size] * block_size + position % block_size
        for segment in segments
        for position in range(segment.context_len, segment.context_len + segment.num_rows)
    ]
