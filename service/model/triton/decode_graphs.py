"""Decode steps as captured graphs: one launch in place of the hundreds that a forward makes.

A graph repeats the same launches on the same memory, so all that differs between steps is put into
buffers first: tokens, positions, places in the KV store, whose rows are whose. Steps are captured
for some numbers of rows, with and without adapters, and a step takes the next larger one, whose
further rows belong to nobody. What a kernel does not do cannot be captured; such steps run as all
others do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import torch

from service.core import NO_SLOT
from service.model.context import RowRuns, StepContext
from service.model.lanes.ragged import write_index
from service.model.triton.attention import RowTiles
from service.model.triton.terms import TritonTerms
from service.step import Step

log = structlog.get_logger(__name__)

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Token ids and positions, `[1, T]` each → logits `[T, vocab]`."""
Capture = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]
"""Runs what it is given, and returns what repeats it into the same tensor."""

_NOBODY = -1


@dataclass(frozen=True, slots=True)
class _Buffers:
    tokens: torch.Tensor
    """`[3, n]` int64: token ids, positions, slots in the KV store"""
    tiles: torch.Tensor
    """`[n, 3]` int32, as `TritonTerms.runs` makes them"""
    rows: torch.Tensor
    """`[n, 4]` int32, as `RowTiles.single`"""
    blocks: torch.Tensor
    """`[n, longest]` int32"""

    @classmethod
    def of(cls, num_rows: int, longest: int, device: torch.device) -> "_Buffers":
        def room(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            room(3, num_rows, dtype=torch.int64),
            room(num_rows, 3),
            room(num_rows, 4),
            room(num_rows, longest),
        )

    def fill(self, step: Step, block_size: int) -> None:
        """Rows that the step does not have belong to nobody and are stored nowhere."""
        num_rows, longest = self.blocks.shape
        spare = num_rows - len(step.token_ids)
        places = write_index(step.segments, block_size)
        self.tokens.copy_(
            torch.tensor(
                [
                    [*step.token_ids, *[0] * spare],
                    [*step.positions, *[0] * spare],
                    [*places, *[_NOBODY] * spare],
                ]
            )
        )
        slots = [*step.row_slot, *[NO_SLOT] * spare]
        tiles = [(slot, row, row + 1) for row, slot in enumerate(slots)]
        self.tiles.copy_(torch.tensor(tiles, dtype=torch.int32))
        rows = [
            (row, 1, one.context_len, row * longest) for row, one in enumerate(step.segments)
        ] + [(0, 0, 0, 0)] * spare
        self.rows.copy_(torch.tensor(rows, dtype=torch.int32))
        tables = [one.block_table + [0] * (longest - len(one.block_table)) for one in step.segments]
        self.blocks[: len(tables)].copy_(torch.tensor(tables, dtype=torch.int32))


class DecodeGraphs:
    """Owned by the engine thread."""

    def __init__(
        self,
        forward: Forward,
        terms: TritonTerms,
        context: StepContext,
        capture: Capture,
        *,
        block_size: int,
        max_num_seqs: int,
        max_blocks: int,
        device: torch.device,
    ) -> None:
        """`max_blocks` of one sequence."""
        self._forward = forward
        self._terms = terms
        self._context = context
        self._capture = capture
        self._block_size = block_size
        self._sizes = _sizes(max_num_seqs)
        self._buffers = {size: _Buffers.of(size, max_blocks, device) for size in self._sizes}
        self._graphs: dict[tuple[int, bool], Callable[[], torch.Tensor]] = {}
        self._generation = terms.generation
        self._is_possible = context.can_capture

    def takes(self, step: Step) -> bool:
        """Whether it is rows of one token each, whose adapters the kernels know in full."""
        return (
            self._is_possible
            and step.num_decode == len(step.segments) == len(step.token_ids)
            and 0 < len(step.segments) <= self._sizes[-1]
            and not (step.virtual_rows or step.prefix_writes)
            and self._context.kernel_slots.issuperset(set(step.row_slot) - {NO_SLOT})
            and not any(one.task_id for one in step.segments)
        )

    def run(self, step: Step) -> torch.Tensor | None:
        """Logits `[rows, vocab]`, to be read before the next step, or None if it cannot be."""
        self._terms.tables.flush()
        size = next(one for one in self._sizes if one >= len(step.token_ids))
        has_terms = any(slot != NO_SLOT for slot in step.row_slot)
        self._buffers[size].fill(step, self._block_size)
        if self._generation != self._terms.generation:
            self._graphs.clear()
        if (size, has_terms) not in self._graphs and not self._try_capture(size, has_terms):
            return None
        return self._graphs[size, has_terms]()[: len(step.token_ids)]

    def capture_all(self) -> None:
        """Before the first step, so that none has to wait for it."""
        self._terms.tables.flush()
        for size in reversed(self._sizes):
            self._buffers[size].rows.zero_()
            self._buffers[size].tokens.fill_(0)[2].fill_(_NOBODY)
            self._buffers[size].tiles.fill_(NO_SLOT)
            if not (self._try_capture(size, False) and self._try_capture(size, True)):
                return

    def _try_capture(self, size: int, has_terms: bool) -> bool:
        buffers = self._buffers[size]
        ids, positions, slots = buffers.tokens
        empty = buffers.rows[:0]
        runs = RowRuns(size, kernel_runs=buffers.tiles, is_captured=has_terms)
        self._context.begin_captured(
            runs, RowTiles(buffers.rows, empty, buffers.blocks.view(-1)), slots
        )
        try:
            graph = self._capture(lambda: self._forward(ids[None], positions[None]))
        except RuntimeError as error:
            # A model may look at its tensors; then it is run as it is.
            log.warning("decode_not_captured", rows=size, reason=str(error))
            self._is_possible = False
            return False
        self._generation = self._terms.generation
        self._graphs[size, has_terms] = graph
        return True


def _sizes(max_num_seqs: int) -> list[int]:
    """Numbers of rows: few of them wasted, and few to capture."""
    small = [one for one in (1, 2, 4) if one < max_num_seqs]
    return [*small, *range(8, max_num_seqs, 8), max_num_seqs]


class CudaCapture:
    """All graphs share the memory of what they compute on the way."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # whatever is made once, is made before
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = run()

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay
