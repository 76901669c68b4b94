"""Adapters that are only on disk: their own first token, and what they cost the others."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from tests.bench import fairness
from tests.bench.engine.figures import Figure
from tests.bench.engine.setup import RANK, Setup
from tests.bench.traffic import Wish
from tests.server import Server

FIRST, BETWEEN = 1.0, 1.2
_WARM_SHARE = 1.5
"""Of the warm time to the first token that a cold one may take, and the time to read the file."""
_NUM_NAMES = 8
"""Asked for in turn, with memory for half of them: each is cold."""


def measure(setup: Setup) -> Iterator[Figure]:
    yield _first_token(setup)
    plan = setup.load.storm
    with TemporaryDirectory(dir=setup.work) as folder:
        cold, warm = fairness.Bench(plan, Path(folder)).storms()
    between = [one.between_p99 / other.between_p99 for one, other in zip(cold, warm, strict=True)]
    yield Figure(
        f"p99 between tokens of {plan.num_streams} streams beside cold adapters / beside warm ones",
        median(between),
        at_most=BETWEEN,
        note=f"{plan.num_storm / plan.storm_seconds:.1f} requests a second, each of another adapter"
        f" of {4 * plan.size.num_adapter_weights(plan.rank) / 1e6:.1f} MB, on a base of"
        f" {plan.size.num_weights / 1e6:.0f} million weights; the same arrivals,"
        f" {plan.num_runs} runs in turns",
    )


def _first_token(setup: Setup) -> Figure:
    base = setup.small
    names = setup.same_rank(base)[:_NUM_NAMES]
    room = len(names) * setup.adapter_bytes(base, RANK) // 2 + (128 << 10)
    budgets = {"host_adapter_bytes": room, "device_adapter_bytes": room}
    seconds: dict[str, list[float]] = {"cold": [], "warm": [], "read": []}
    with setup.server(base, names, **budgets) as server:
        files = {name: _file(setup, server, name) for name in names}
        setup.run(server, base, [base], 1, num_requests=2)
        for _ in range(setup.load.rounds[base]):
            for name in names:
                seconds["read"].append(_read_from_disk(files[name]))
                _forget(files[name])
                known = _num_loads(server)
                seconds["cold"].append(_first(setup, server, base, name))
                assert _num_loads(server) == known + 1, "the adapter was in memory"
                seconds["warm"].append(_first(setup, server, base, name))
    cold, warm, read = (median(seconds[name]) for name in ("cold", "warm", "read"))
    return Figure(
        f"{base}: first token of a cold adapter / ({_WARM_SHARE} times a warm one's + a read)",
        cold / (_WARM_SHARE * warm + read),
        at_most=FIRST,
        note=f"{1000 * cold:.0f} ms cold, {1000 * warm:.0f} warm, {1000 * read:.1f} to read"
        f" {next(iter(files.values())).stat().st_size / 1e6:.1f} MB that no page cache holds",
    )


def _first(setup: Setup, server: Server, base: str, name: str) -> float:
    traffic = setup.traffic(server, base)

    async def work() -> float:
        async with traffic.client() as client:
            wish = Wish(name, setup.load.num_prompt, 1)
            return (await traffic.ask(client, wish, random.Random(traffic.seed))).first

    return asyncio.run(work())


def _num_loads(server: Server) -> float:
    return server.metric("repertoire_adapter_tier_loads_total", tier="host")


def _file(setup: Setup, server: Server, name: str) -> Path:
    version = server.client.get(f"/v1/adapters/{name}").json()["versions"][-1]
    digest = version["digest"].removeprefix("sha256:")
    forms = (setup.work / "cache" / "adapters").glob(f"{digest}-*.terms")
    # An earlier run may have left that of another base.
    return max(forms, key=lambda path: path.stat().st_mtime)


def _read_from_disk(path: Path) -> float:
    _forget(path)
    started = perf_counter()
    path.read_bytes()
    return perf_counter() - started


def _forget(path: Path) -> None:
    """So that the next read is one of the disk, as far as the system lets the pages go."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
