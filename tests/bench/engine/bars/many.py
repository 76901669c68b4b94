"""Thousands of adapters of which few are asked for often, and memory for a part of them."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random
from time import perf_counter

import torch

from service.settings import resolve_settings
from tests.bench.engine.figures import Figure
from tests.bench.engine.fill import fill
from tests.bench.engine.runs import median_ratio, take_turns
from tests.bench.engine.setup import Setup
from tests.bench.random_llama import make_adapter
from tests.bench.traffic import percentile
from tests.server import Server

RANK, MODULES = 4, ("q_proj", "v_proj")
SHARE = 0.9
"""Of the requests, whose adapters fit the device."""
EXPONENT = 1.0
THROUGHPUT, PAGE_MS = 0.95, 20.0
_PAGE_BYTES = 64 << 10
"""A slot is a whole number of pages."""
_NUM_PAGES = 40
_NUM_TURNS = 3
"""Requests of a run, in multiples of those that are open at once."""


def measure(setup: Setup) -> Iterator[Figure]:
    base, load = setup.small, setup.load
    names = [f"many-{number:05}" for number in range(load.num_registered)]
    weights = [1 / (place + 1) ** EXPONENT for place in range(len(names))]
    wanted = SHARE * sum(weights)
    num_fitting = sum(total < wanted for total in accumulate(weights)) + 1
    one, seconds = _stores(setup, base, names)
    slot = -(-one // _PAGE_BYTES) * _PAGE_BYTES
    budgets = {"few": num_fitting * slot, "all": (len(names) + 1) * slot}
    with ExitStack() as stack:
        servers = {
            arm: stack.enter_context(
                setup.server(base, store=_store(setup, arm), device_adapter_bytes=budget)
            )
            for arm, budget in budgets.items()
        }
        for server in servers.values():
            _bring_in(server, names)
        known = _num_loads(servers["few"])
        yield from _throughput(setup, base, servers, names, weights)
        yield from _budgets(servers["few"])
        yield _page(servers["few"], len(names))
        num_loads = _num_loads(servers["few"]) - known
    yield Figure(
        f"{base}: made, compiled and stored",
        seconds,
        "s",
        note=f"{len(names)} LoRAs of rank {RANK} on {' and '.join(MODULES)}, put into the store by"
        " its own code in one process, without HTTP and without comparing them with peft;"
        f" {num_fitting} fit the device, all the host; {num_loads:.0f} were brought in by runs",
    )


def _store(setup: Setup, arm: str) -> Path:
    return setup.work / f"many-store-{arm}"


def _stores(setup: Setup, base: str, names: list[str]) -> tuple[int, float]:
    """Two of the same content, since each server takes its own. Bytes of one adapter, seconds."""
    started = perf_counter()
    made = {name: setup.work / "many-made" / name for name in names}
    for seed, folder in enumerate(made.values()):
        if not folder.exists():
            make_adapter(setup.load.sizes[base], folder, seed, RANK, MODULES, torch.bfloat16)
    for arm in ("few", "all"):
        shutil.rmtree(_store(setup, arm), ignore_errors=True)
    _store(setup, "few").mkdir()
    settings = resolve_settings(
        setup.settings
        | {"base_model": str(setup.base(base)), "adapters_store": _store(setup, "few")}
    )
    one = fill(settings, made, setup.work / "many-compiled")
    shutil.copytree(_store(setup, "few"), _store(setup, "all"))
    return one, perf_counter() - started


def _bring_in(server: Server, names: list[str]) -> None:
    """All of them into host memory; on the device stay those that are asked for most, which come
    last."""

    def one(name: str) -> None:
        place = {"tier": "device", "timeout_ms": 60_000}
        server.client.post(f"/v1/adapters/{name}/warm", json=place).raise_for_status()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, reversed(names)))


def _num_loads(server: Server) -> float:
    return server.metric("repertoire_adapter_tier_loads_total", tier="device")


def _throughput(
    setup: Setup, base: str, servers: dict[str, Server], names: list[str], weights: list[float]
) -> Iterator[Figure]:
    load = setup.load
    counts = dict.fromkeys(servers, 0)

    def run(arm: str) -> float:
        counts[arm] += 1
        trace = Random(counts[arm]).choices(names, weights, k=_NUM_TURNS * load.many)
        return setup.run(
            servers[arm],
            base,
            trace,
            load.many,
            num_requests=len(trace),
            num_prompt=load.num_prompt // 2,
            num_output=load.num_output // 2,
        ).tokens_per_s

    speed = take_turns({arm: partial(run, arm) for arm in servers}, load.rounds[base])
    yield Figure(
        f"{base}, c={load.many}: {len(names)} adapters, Zipf, device for {SHARE:.0%} of the"
        " requests / for all",
        median_ratio(speed["few"], speed["all"]),
        at_least=THROUGHPUT,
        note="the same requests to two servers in turns, prompts and answers of half the length",
    )


def _budgets(server: Server) -> Iterator[Figure]:
    for tier in ("device", "host"):
        held, budget = (
            server.metric(f"repertoire_adapter_tier_{name}", tier=tier)
            for name in ("bytes", "budget_bytes")
        )
        note = f"{held / 1e6:,.0f} of {budget / 1e6:,.0f} MB"
        yield Figure(f"adapters in {tier} memory / its budget", held / budget, at_most=1, note=note)


def _page(server: Server, num_registered: int) -> Figure:
    seconds = []
    for _ in range(_NUM_PAGES):
        started = perf_counter()
        server.client.get("/v1/adapters").raise_for_status()
        seconds.append(perf_counter() - started)
    worst = 1000 * percentile(seconds, 0.95)
    name = f"a page of 100 of {num_registered} adapters, p95"
    return Figure(name, worst, "ms", at_most=PAGE_MS)
