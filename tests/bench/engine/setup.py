"""What all bars share: bases, adapters and servers in one folder, made when they are first used."""

import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from zlib import crc32

import torch

from service.model.loader import resolve_dtype
from tests.bench import fairness
from tests.bench.engine.models import BASES, FIRST_WORD, GPU_BASES, make_base
from tests.bench.engine.runs import Run, closed_loop
from tests.bench.random_llama import Size, make_adapter
from tests.bench.traffic import Traffic, Wish
from tests.server import Server

RANK = 16
MIXED_RANKS = (8, 8, 16, 16, 32, 32, 64, 64)
_STORM = replace(fairness.FULL, num_storm=50, storm_seconds=3.0)


@dataclass(frozen=True, slots=True)
class Workload:
    """How much of everything; a test has a smaller one."""

    sizes: dict[str, Size] = field(default_factory=lambda: BASES | GPU_BASES)
    num_prompt: int = 128
    num_output: int = 64
    few: int = 8
    many: int = 32
    """Answers at once: `c`."""
    rounds: dict[str, int] = field(default_factory=lambda: {"base-s": 5, "base-m": 3, "base-l": 3})
    min_requests: dict[str, int] = field(
        default_factory=lambda: {"base-s": 16, "base-m": 8, "base-l": 8}
    )
    """Of a run, where no more are open at once."""
    long_prompt: int = 2000
    num_own: int = 16
    """Tokens of a prompt behind what it shares with another."""
    quiet_s: float = 1.5
    """Between two long prompts."""
    num_registered: int = 2000
    storm: fairness.Plan = _STORM


_TINY = Size(64, 176, 2, 8, 4, vocabulary=512, max_positions=256)
QUICK = Workload(
    sizes=dict.fromkeys(BASES, _TINY),
    num_prompt=8,
    num_output=6,
    few=2,
    many=4,
    rounds=dict.fromkeys(BASES, 1),
    min_requests=dict.fromkeys(BASES, 2),
    long_prompt=64,
    num_own=4,
    quiet_s=0.1,
    num_registered=20,
    storm=fairness.SHORT,
)
"""Shows that everything works, and nothing else."""


@dataclass(frozen=True, slots=True)
class Setup:
    work: Path
    bases: tuple[str, ...]
    load: Workload = field(default_factory=Workload)

    @property
    def settings(self) -> dict[str, Any]:
        """Of every server unless a bar says otherwise."""
        return {
            "device": "cpu",
            "dtype": "auto",
            "kv_bytes": 1 << 30,
            "device_adapter_bytes": 2 << 30,
            "cache_dir": self.work / "cache",
        }

    @property
    def number_bytes(self) -> int:
        """Of the dtype that servers run in here."""
        return resolve_dtype("auto", torch.device("cpu")).itemsize

    @property
    def small(self) -> str:
        """For what does not depend on the size of the base."""
        return self.bases[0]

    def base(self, name: str) -> Path:
        return make_base(self.load.sizes[name], self.work / name)

    def same_rank(self, base: str, count: int = 0) -> list[str]:
        """Names of `many` adapters, or of `count`, of one rank on all linear modules."""
        ranks = {f"r{RANK}-{number:02}": RANK for number in range(count or self.load.many)}
        return self._made(base, ranks)

    def mixed_rank(self, base: str) -> list[str]:
        ranks = {f"mixed-{number:02}": rank for number, rank in enumerate(MIXED_RANKS)}
        return self._made(base, ranks)

    def traffic(self, server: Server, base: str) -> Traffic:
        """Its prompts are of no other run, so that no cache can know them."""
        words = range(FIRST_WORD, self.load.sizes[base].vocabulary)
        return Traffic(server.url, random.randrange(1 << 30), words)

    def run(
        self,
        server: Server,
        base: str,
        models: Sequence[str],
        width: int,
        *,
        num_requests: int = 0,
        num_prompt: int = 0,
        num_output: int = 0,
        texts: Sequence[str] = ("",),
    ) -> Run:
        """A closed loop of `width` answers; models take turns, and so do texts, if there are any,
        in place of random ids. 0 is what the workload says."""
        load = self.load
        count = num_requests or max(width, load.min_requests[base])
        wishes = [
            Wish(model, num_prompt or load.num_prompt, num_output or load.num_output, prompt=text)
            for model, text in islice(zip(cycle(models), cycle(texts), strict=False), count)
        ]
        return closed_loop(server, self.traffic(server, base), wishes, width)

    @contextmanager
    def server(self, base: str, adapters: Iterable[str] = (), **settings: Any) -> Iterator[Server]:
        """As it runs by default, but with budgets of its own and only what it has been given:
        `adapters` are published, and on the device."""
        folder = self.base(base)
        work = self.work / f"served-{base}"
        work.mkdir(exist_ok=True)
        with Server(folder, work, **self.settings | settings) as server:
            self._publish(server, base, list(adapters))
            yield server

    def _publish(self, server: Server, base: str, names: list[str]) -> None:
        def one(name: str) -> None:
            if server.client.get(f"/v1/models/{name}").status_code == 404:
                server.upload(name, self.adapter_folder(base, name)).raise_for_status()
            place = {"tier": "device", "timeout_ms": 60_000}
            server.client.post(f"/v1/adapters/{name}/warm", json=place).raise_for_status()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, names))

    def adapter_bytes(self, base: str, rank: int) -> int:
        """Once it is compiled for the dtype that servers run in here."""
        return self.number_bytes * self.load.sizes[base].num_adapter_weights(rank)

    def _made(self, base: str, ranks: dict[str, int]) -> list[str]:
        for name, rank in ranks.items():
            folder = self.adapter_folder(base, name)
            if not folder.exists():
                seed = crc32(name.encode())
                size = self.load.sizes[base]
                make_adapter(size, folder, seed, rank, dtype=torch.bfloat16)
        return list(ranks)

    def adapter_folder(self, base: str, name: str) -> Path:
        return self.work / f"adapters-{base}" / name
