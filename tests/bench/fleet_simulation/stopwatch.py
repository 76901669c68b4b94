"""The real engine, driven by hand, with the time that its turns take."""

import itertools
import queue
from pathlib import Path
from time import perf_counter, thread_time

from service.adapters.backends.form_files import FormFiles
from service.adapters.disk_cache import DiskCache
from service.adapters.limits import AdapterLimits
from service.adapters.residency import Residency
from service.compiler.launcher import ChildCompiler
from service.core import AdapterRef, GenerationRequest, SamplingParams
from service.engine.block_manager import BlockManager
from service.engine.engine import Engine, EngineParts
from service.engine.loader import AdapterLoader
from service.engine.model_runner import ModelRunner
from service.engine.policy import scheduling_policy
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.model.lanes.build import build_lane
from service.model.loader import LoadedBase
from service.model.pool import AdapterPool
from service.step import ResidencyPlan
from tests.bench.fleet_simulation.fit import Sample
from tests.contract.compiling import CompiledFolders

_MEMORY = 256 << 20
_BLOCKS, _BLOCK_SIZE = 1024, 16
_PROMPT = 16
"""Tokens of the sequences that decode."""
_REPEATS = 60
_COMPILES = 5


class _TimedPool:
    """Passes plans on and writes down how long each copied adapter took."""

    def __init__(self, pool: AdapterPool) -> None:
        self._pool = pool
        self.insert_host, self.wait_for = pool.insert_host, pool.wait_for
        self.copies: list[float] = []

    def apply(self, plan: ResidencyPlan) -> None:
        started = thread_time()
        self._pool.apply(plan)
        if plan.loads:
            self.copies.append((thread_time() - started) / len(plan.loads))


class Stopwatch:
    def __init__(self, base: LoadedBase, folders: list[Path], work: Path) -> None:
        self._base, self._folders = base, folders
        self.dtype = base.description.dtype
        self._source = source = CompiledFolders(base, work / "compiled")
        self._refs = [source.add(f"a{i}", folder) for i, folder in enumerate(folders)]
        self.adapter_bytes = [one.compiled_bytes for one in self._refs][:3]
        pool = AdapterPool(base.sites, _MEMORY, base.model.device, base.context)
        self._pool = _TimedPool(pool)
        residency = Residency(_MEMORY, _MEMORY)
        blocks = BlockManager(_BLOCKS, _BLOCK_SIZE, has_prefix_cache=False)
        shapes = (base.model, base.context, base.layers, _BLOCKS, _BLOCK_SIZE)
        self._loads: queue.SimpleQueue = queue.SimpleQueue()
        self._load_seconds: list[float] = []
        config = SchedulerConfig(max_copied_adapters=1000, max_mixed_prefill_tokens=512)
        parts = EngineParts(
            scheduler=Scheduler(config, blocks, residency, scheduling_policy("fair")),
            blocks=blocks,
            residency=residency,
            pool=self._pool,
            runner=ModelRunner(build_lane(base.lane.name, *shapes)),
            loader=AdapterLoader(source, pool.check, pin_memory=False, num_threads=1),
            eos_token_ids=frozenset(),
        )
        self._engine = Engine(parts, lambda *result: self._loads.put(result))
        self._numbers = itertools.count()

    def decode(self, num_sequences: int, num_adapters: int) -> Sample:
        ids = self._start(num_sequences, num_adapters)
        seconds = min(self._step() for _ in range(_REPEATS))
        self._end(ids)
        return Sample(num_sequences, 0, num_adapters, seconds)

    def prefill(self, num_rows: int, num_beside: int) -> Sample:
        """All of one adapter: what distinct ones cost, `decode` shows."""
        ids = self._start(num_beside, 1)
        seconds = []
        for _ in range(_REPEATS // 4):
            prompt = self._add(0, num_rows, 2)
            seconds.append(self._step())
            self._end([prompt])
        self._end(ids)
        return Sample(num_beside, num_rows, 1, min(seconds))

    def copy_seconds(self) -> float:
        """Each adapter goes and comes again: as a cold one it is loaded, and copied once."""
        for ref in self._refs[:8]:
            self._engine.unload(ref.digest)
        self._pool.copies.clear()
        self._end(self._start(8, min(8, len(self._refs))))
        for ref in self._refs[:8]:
            self._engine.unload(ref.digest)
            self._end(self._start(1, 1, first=self._refs.index(ref)))
        return min(self._pool.copies)

    def load_seconds(self) -> float:
        """Compiled files in the page cache."""
        return round(min(self._load_seconds), 7)

    def fetch_seconds(self, work: Path) -> float:
        """Of a form that another replica has compiled and shared, until it is on the own disk: from
        a folder of the same machine."""
        shared = FormFiles(work / "shared", work)
        caches = [
            DiskCache(work / name, 1 << 40, self._base.description, self._form, shared)
            for name in ("another", "own")
        ]
        seconds = []
        for cache in caches:
            cache.start()
            for ref in self._refs:
                started = perf_counter()
                cache.open(ref).close()
                seconds.append(perf_counter() - started)
        return round(min(seconds[len(self._refs) :]), 7)

    def compile_seconds(self, work: Path) -> float:
        """Of the first replica that needs a form."""
        compiler = ChildCompiler(self._base.description, AdapterLimits())
        seconds = []
        for number in range(_COMPILES):
            folder = work / "jobs" / str(number)
            folder.mkdir(parents=True)
            started = perf_counter()
            compiler.compile(self._folders[number % len(self._folders)], folder, is_stored=True)
            seconds.append(perf_counter() - started)
        return round(min(seconds), 4)

    def _form(self, digest: str, folder: Path) -> Path:
        ref = next(one for one in self._refs if one.digest == digest)
        with self._source.open(ref) as file:
            (folder / "compiled").write_bytes(file.read())
        return folder / "compiled"

    def _start(self, num_sequences: int, num_adapters: int, first: int = 0) -> list[str]:
        """Sequences that decode from the next step on."""
        ids = [self._add(first + i % max(1, num_adapters)) for i in range(num_sequences)]
        while self._engine.stats.num_cold:
            result = self._loads.get(timeout=60)
            self._load_seconds.append(result[2])
            self._engine.finish_load(*result)
        while self._engine.stats.num_waiting:
            self._step()
        self._step()
        return ids

    def _add(self, adapter: int, num_prompt: int = _PROMPT, max_tokens: int = 100) -> str:
        request_id = f"r{next(self._numbers)}"
        params = SamplingParams(max_tokens, temperature=0.0, ignore_eos=True)
        ref: AdapterRef = self._refs[adapter]
        self._engine.add(GenerationRequest(request_id, (5,) * num_prompt, params, ref))
        return request_id

    def _end(self, ids: list[str]) -> None:
        for request_id in ids:
            self._engine.abort(request_id)

    def _step(self) -> float:
        """Of this thread, which does all of it: whatever else the machine has to do."""
        started = thread_time()
        self._engine.step()
        return thread_time() - started
