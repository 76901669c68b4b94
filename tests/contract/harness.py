"""The real engine driven step by step in this thread, with what it computed kept for comparison."""

import copy
import itertools
import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from transformers import PreTrainedModel

from service.adapters.compiled import read_header
from service.adapters.limits import AdapterLimits
from service.adapters.residency import Residency
from service.compiler.compile import run_job
from service.compiler.job import Job
from service.compiler.tuners.base import PeftBase, load_peft_base
from service.compiler.tuners.work import Work
from service.core import AdapterRef, GenerationRequest, SamplingParams, Step, TokenEvent
from service.engine.block_manager import BlockManager
from service.engine.engine import Engine, EngineParts
from service.engine.loader import AdapterLoader
from service.engine.model_runner import ModelRunner
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.model.lanes.build import build_lane
from service.model.lanes.lane import Lane
from service.model.loader import LoadedBase
from service.model.pool import AdapterPool


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
        self.is_paged = lane.is_paged
        self.forgotten: list[str] = []
        self.logits: dict[str, dict[int, torch.Tensor]] = {}
        self.num_mixed_steps = 0
        self.most_adapters_in_step = 0

    def forget(self, request_id: str) -> None:
        self.forgotten.append(request_id)
        self._lane.forget(request_id)

    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        rows = list(range(len(step.token_ids)))
        logits = self._lane.run(step, rows)
        for segment in step.segments:
            kept = self.logits.setdefault(segment.request_id, {})
            for offset in range(segment.num_rows):
                kept[segment.context_len + offset] = logits[segment.first_row + offset].cpu()
        self.num_mixed_steps += 0 < step.num_decode < len(step.segments)
        distinct = len(set(step.row_slot))
        self.most_adapters_in_step = max(self.most_adapters_in_step, distinct)
        return logits[torch.tensor(wanted, dtype=torch.long, device=logits.device)]


class CompiledFolders:
    """`AdapterSource` over PEFT folders compiled by the real compiler."""

    def __init__(self, base: LoadedBase, work: Path) -> None:
        self._base = base
        self._work = work
        self._files: dict[str, Path] = {}
        self._peft_base: PeftBase | None = None

    def add(self, name: str, folder: Path) -> AdapterRef:
        """Raises `AdapterRefused`."""
        result = run_job(self._job(name, folder))
        if result.needs_peft:
            result = Work(self._fresh_base()).run(self._job(f"{name}-by-peft", folder))
        with Path(result.compiled).open("rb") as file:
            header = read_header(file)
        self._files[header.digest] = Path(result.compiled)
        manifest = result.manifest
        assert manifest is not None
        return AdapterRef(
            name,
            1,
            header.digest,
            header.payload_bytes,
            num_virtual_tokens=manifest.num_virtual_tokens,
            num_prefix_tokens=manifest.num_prefix_tokens,
            invocation_tokens=manifest.invocation_tokens,
            num_tasks=manifest.num_tasks,
            is_summable=manifest.is_summable,
        )

    def _job(self, name: str, folder: Path) -> Job:
        work = self._work / f"{name}-{len(self._files)}"
        work.mkdir(parents=True)
        return Job(str(folder), str(work), self._base.description, AdapterLimits(), False)

    def _fresh_base(self) -> PeftBase:
        """A copy in place of a fork: peft changes what it is given."""
        if self._peft_base is None:
            self._peft_base = load_peft_base(Path(self._base.description.folder))
        model: PreTrainedModel = copy.deepcopy(self._peft_base.model)
        return PeftBase(model, dict(model.named_modules()))

    def open(self, ref: AdapterRef) -> BinaryIO:
        return self._files[ref.digest].open("rb")


@dataclass
class Outcome:
    token_ids: list[int] = field(default_factory=list)
    events: list[TokenEvent] = field(default_factory=list)

    @property
    def last(self) -> TokenEvent:
        return self.events[-1]


class Harness:
    def __init__(self, base: LoadedBase, source: CompiledFolders | None, budgets: Budgets) -> None:
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
        )
        self.lane = RecordingLane(lane)
        self.blocks = BlockManager(
            budgets.num_blocks,
            budgets.block_size,
            budgets.prefix_cache and lane.is_paged,
            base.length_classes,
        )
        config = SchedulerConfig(
            max_num_seqs=budgets.max_num_seqs,
            max_num_batched_tokens=budgets.max_num_batched_tokens,
            max_mixed_prefill_tokens=budgets.max_mixed_prefill_tokens,
            chunked_prefill=base.lane.can_chunk,
        )
        self._loaded: queue.SimpleQueue = queue.SimpleQueue()
        self._loader = AdapterLoader(source, pin_memory=False)
        self._pool = AdapterPool(base.sites, budgets.device_bytes, device, base.context)
        self.engine = Engine(
            EngineParts(
                scheduler=Scheduler(config, self.blocks, self.residency),
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
        self._numbers = itertools.count()

    def add(
        self,
        prompt: list[int],
        adapter: AdapterRef | None = None,
        task_id: int = 0,
        **params: object,
    ) -> str:
        options = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | params
        request = GenerationRequest(
            f"r{next(self._numbers)}",
            tuple(prompt),
            SamplingParams(**options),
            adapter,
            task_id=task_id,
        )
        self.outcomes[request.request_id] = Outcome()
        self.prompts[request.request_id] = prompt
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
