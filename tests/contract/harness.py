"""The real engine driven step by step in this thread, with what it computed kept for comparison."""

import itertools
import queue
from dataclasses import dataclass, field

import torch

from service.adapters.residency import Residency
from service.core import AdapterRef, GenerationRequest, SamplingParams, TokenEvent
from service.engine.block_manager import BlockManager
from service.engine.engine import Engine, EngineParts
from service.engine.loader import AdapterLoader
from service.engine.model_runner import ModelRunner
from service.engine.policy import scheduling_policy
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.model.lanes.build import GraphOptions, build_lane
from service.model.lanes.lane import Lane
from service.model.loader import LoadedBase
from service.model.pool import AdapterPool
from service.step import Step
from tests.contract.compiling import CompiledFolders


@dataclass(frozen=True)
class Budgets:
    """Small by default, so that everything that can happen to a sequence does."""

    num_blocks: int = 40
    block_size: int = 4
    max_num_seqs: int = 12
    max_num_batched_tokens: int = 24
    max_mixed_prefill_tokens: int = 7
    device_bytes: int = 1 << 20
    host_bytes: int = 1 << 22
    page_bytes: int = 256
    prefix_cache: bool = True


class RecordingLane:
    """Keeps the logits of every row of every request by position."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.name = lane.name
        self.is_paged = lane.store is not None
        self.forgotten: list[str] = []
        self.logits: dict[str, dict[int, torch.Tensor]] = {}
        self.num_mixed_steps = 0
        self.most_adapters_in_step = 0

    def forget(self, request_id: str) -> None:
        self.forgotten.append(request_id)
        self._lane.forget(request_id)

    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        rows = list(range(len(step.token_ids)))
        # What a graph computes lies where the next step computes it.
        logits = self._lane.run(step, rows).clone()
        for segment in step.segments:
            kept = self.logits.setdefault(segment.request_id, {})
            for offset in range(segment.num_rows):
                kept[segment.context_len + offset] = logits[segment.first_row + offset].cpu()
        self.num_mixed_steps += 0 < step.num_decode < len(step.segments)
        distinct = len(set(step.row_slot))
        self.most_adapters_in_step = max(self.most_adapters_in_step, distinct)
        return logits[torch.tensor(wanted, dtype=torch.long, device=logits.device)]


@dataclass
class Outcome:
    token_ids: list[int] = field(default_factory=list)
    events: list[TokenEvent] = field(default_factory=list)

    @property
    def last(self) -> TokenEvent:
        return self.events[-1]


class Harness:
    def __init__(
        self,
        base: LoadedBase,
        source: CompiledFolders | None,
        budgets: Budgets,
        graphs: GraphOptions | None = None,
    ) -> None:
        device = base.model.device
        self.residency = Residency(
            budgets.device_bytes, budgets.host_bytes, page_bytes=budgets.page_bytes
        )
        lane = build_lane(
            base.lane.name,
            base.model,
            base.context,
            base.layers,
            budgets.num_blocks,
            budgets.block_size,
            graphs,
        )
        self.lane = RecordingLane(lane)
        self.blocks = BlockManager(
            budgets.num_blocks,
            budgets.block_size,
            budgets.prefix_cache and lane.store is not None,
            base.length_classes,
        )
        config = SchedulerConfig(
            max_num_seqs=budgets.max_num_seqs,
            max_num_batched_tokens=budgets.max_num_batched_tokens,
            max_mixed_prefill_tokens=budgets.max_mixed_prefill_tokens,
            chunked_prefill=base.lane.can_chunk,
            # All of them in one step is what these tests are about.
            max_copied_adapters=10_000,
        )
        self._loaded: queue.SimpleQueue = queue.SimpleQueue()
        self._pool = AdapterPool(base.sites, budgets.device_bytes, device, base.context)
        self._loader = AdapterLoader(source, self._pool.check, pin_memory=False, num_threads=256)
        self.engine = Engine(
            EngineParts(
                scheduler=Scheduler(config, self.blocks, self.residency, scheduling_policy("fair")),
                blocks=self.blocks,
                residency=self.residency,
                pool=self._pool,
                runner=ModelRunner(self.lane),
                loader=self._loader,
                eos_token_ids=frozenset([2]),
            ),
            on_loaded=lambda *result: self._loaded.put(result),
        )
        self.outcomes: dict[str, Outcome] = {}
        self.prompts: dict[str, list[int]] = {}
        self.tasks: dict[str, int | None] = {}
        self.num_front: dict[str, int] = {}
        self._numbers = itertools.count()

    def add(
        self,
        prompt: list[int],
        adapter: AdapterRef | None = None,
        task: int | None = None,
        **params: object,
    ) -> str:
        """`task` of a multitask adapter."""
        options = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | params
        request = GenerationRequest(
            f"r{next(self._numbers)}",
            tuple(prompt),
            SamplingParams(**options),
            adapter,
            task_id=task or 0,
        )
        self.outcomes[request.request_id] = Outcome()
        self.prompts[request.request_id] = prompt
        self.tasks[request.request_id] = task
        self.num_front[request.request_id] = adapter.num_front_tokens if adapter else 0
        self._take(self.engine.add(request))
        return request.request_id

    def step(self) -> None:
        wait = not self.engine.has_work and self.engine.stats.num_cold > 0
        while wait or not self._loaded.empty():
            self._take(self.engine.finish_load(*self._loaded.get(timeout=30)))
            wait = False
        self._take(self.engine.step())

    def run(self, max_steps: int = 5000) -> None:
        for _ in range(max_steps):
            self.step()
            if all(one.events and one.last.is_terminal for one in self.outcomes.values()):
                return
        raise AssertionError("the engine does not come to an end")

    def close(self) -> None:
        self._loader.close()
        self._pool.clear()

    def _take(self, events: list[TokenEvent]) -> None:
        for event in events:
            outcome = self.outcomes[event.request_id]
            outcome.events.append(event)
            outcome.token_ids.extend(event.token_ids)
