"""The step as the model's own modules see it: set by the lane before the forward, read by sites
and attention during it. One object per engine, owned by the engine thread, never a module global.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from service.core import NO_SLOT
from service.model.kernels import Kernels, TermKernel
from service.step import Segment, Step, VirtualRow


@dataclass(frozen=True, slots=True)
class SlotRun:
    """Neighbouring rows of one adapter: `x[start:stop]`."""

    slot: int
    start: int
    stop: int
    task: int = 0
    """Of a multitask adapter."""


def runs_of(row_slot: list[int], row_task: list[int] | None = None) -> list[SlotRun]:
    """Run-length encode the rows that some adapter touches. None = nobody has a task."""
    runs: list[SlotRun] = []
    tasks = row_task or [0] * len(row_slot)
    start = 0
    for row in range(1, len(row_slot) + 1):
        is_end = row == len(row_slot) or row_slot[row] != row_slot[start]
        if is_end or tasks[row] != tasks[start]:
            if row_slot[start] != NO_SLOT:
                runs.append(SlotRun(row_slot[start], start, row, tasks[start]))
            start = row
    return runs


@dataclass(frozen=True, slots=True)
class RowRuns:
    """The rows that one kind of site sees: all of the step, or those whose logits are wanted."""

    num_rows: int = 0
    runs: tuple[SlotRun, ...] = ()
    slots: frozenset[int] = frozenset()
    kernel_runs: Any = None
    """The same for the kernel, in its layout."""
    is_captured: bool = False
    """Any adapter may come to any row when the step is repeated: `kernel_runs` says it all."""

    @classmethod
    def of(
        cls, row_slot: list[int], row_task: list[int] | None, kernel: TermKernel | None
    ) -> "RowRuns":
        runs = runs_of(row_slot, row_task)
        slots = frozenset(run.slot for run in runs)
        kernel_runs = kernel and kernel.runs([(run.slot, run.start, run.stop) for run in runs])
        return cls(len(row_slot), tuple(runs), slots, kernel_runs)


def by_rows(segments: list[Segment], value: Callable[[Segment], int]) -> list[int]:
    """A value of each row's own sequence; padding counts as the sequence it stands in front of."""
    values: list[int] = []
    for segment in segments:
        count = segment.first_row + segment.num_rows - len(values)
        values += [value(segment)] * count
    return values


@dataclass(slots=True)
class StepContext:
    """Everything but `segments` is derived from the step once, not once per layer."""

    kernels: Kernels | None = None
    """The same from step to step."""
    rows: RowRuns = field(default_factory=RowRuns)
    """For sites that see all rows."""
    wanted: RowRuns = field(default_factory=RowRuns)
    """For sites that see only the rows whose logits are wanted."""
    segments: list[Segment] = field(default_factory=list)
    num_decode: int = 0
    kernel_rows: Any = None
    """Rows of the segments for the kernel of attention, in its layout."""
    virtual_rows: list[VirtualRow] = field(default_factory=list)
    tables: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    """By slot: what resident adapters do beside the sites; kept by the pool from step to step."""
    kernel_slots: set[int] = field(default_factory=set)
    """Slots of which the kernels do everything; kept by the pool from step to step."""
    can_capture: bool = True
    """False when something in the model's forward reads the step's lists."""
    adaptions: dict[int, dict[int, dict[str, torch.Tensor]]] = field(default_factory=dict)
    """By slot and layer: the attention terms among `tables`."""
    final_lens: list[int] = field(default_factory=list)
    """[T] `Segment.final_len` of each row's own sequence"""
    write_index: torch.Tensor | None = None
    """[T] int64: token slot in the KV store of each row's own key and value"""
    block_tables: dict[int, torch.Tensor] = field(default_factory=dict)
    """Of this step by first row."""
    masks: dict[tuple[int, int | None, bool], torch.Tensor] = field(default_factory=dict)
    """Attention masks of this step by (first row, sliding window, whether biased)."""

    def begin(self, step: Step, wanted: list[int], write_index: torch.Tensor) -> None:
        tasks = _tasks_of(step)
        kernel = None if self.kernels is None else self.kernels.terms
        self.rows = RowRuns.of(step.row_slot, tasks, kernel)
        self.wanted = RowRuns.of(
            [step.row_slot[row] for row in wanted], tasks and [tasks[row] for row in wanted], kernel
        )
        self.segments = step.segments
        self.num_decode = step.num_decode
        attention = None if self.kernels is None else self.kernels.attention
        self.kernel_rows = attention and attention.rows(step.segments)
        self.virtual_rows = step.virtual_rows
        self.final_lens = by_rows(step.segments, lambda one: max(one.final_len, one.end))
        self.write_index = write_index
        self.block_tables.clear()
        self.masks.clear()

    def begin_captured(self, rows: RowRuns, kernel_rows: Any, write_index: torch.Tensor) -> None:
        """A step of single rows that is repeated on these very tensors, whose logits are all
        wanted."""
        self.rows = self.wanted = rows
        self.segments, self.virtual_rows = [], []
        self.kernel_rows = kernel_rows
        self.write_index = write_index
        self.block_tables.clear()
        self.masks.clear()


def _tasks_of(step: Step) -> list[int] | None:
    """[T]; None when no sequence of the step has a task."""
    if not any(segment.task_id for segment in step.segments):
        return None
    return by_rows(step.segments, lambda one: one.task_id)
