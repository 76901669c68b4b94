"""What one user's load costs the others: `make bench-fairness`, or with `--quick` a short form.

1. A storm of distinct adapters beside steady streams, once with the storm's adapters on disk and
   once in host memory, with the same arrivals, in alternating runs. Host memory has room for one of
   two sets of them, so the storm of one set is cold after that of the other.
2. Two tenants of which one sends ten times as much, and two adapters of one tenant.
"""

import argparse
import asyncio
import os
import random
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.bench.machine_class import machine_class
from tests.bench.random_llama import QUICK, STANDARD, Size, make_adapter, make_base
from tests.bench.traffic import Times, Traffic, Wish, during, percentile
from tests.server import Server

OPERATOR = "bench-operator"


@dataclass(frozen=True, slots=True)
class Plan:
    size: Size
    rank: int
    num_runs: int
    num_streams: int
    num_storm: int
    storm_seconds: float
    lead_seconds: float
    share_seconds: float
    num_places: int
    policies: tuple[str, ...]


FULL = Plan(STANDARD, 4, 5, 8, 100, 6.0, 1.0, 10.0, 6, ("fair", "fcfs"))
SHORT = Plan(QUICK, 2, 1, 2, 4, 1.0, 0.2, 1.5, 2, ("fair",))


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the steady streams while the storm lasts, in milliseconds."""

    between_p99: float
    first_p99: float
    between_p50: float

    @classmethod
    def of(cls, answers: Iterable[Times], start: float, stop: float) -> "Latencies":
        between, first = [], []
        for one in answers:
            if one.tokens and start <= one.asked < stop:
                first.append(1000 * (one.tokens[0] - one.asked))
            pairs = zip(one.tokens, one.tokens[1:], strict=False)
            between += [
                1000 * (after - before) for before, after in pairs if start <= before < stop
            ]
        return cls(percentile(between, 0.99), percentile(first, 0.99), median(between))


class Bench:
    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan, self.work = plan, work
        self.base = make_base(plan.size, work / "bench-base")
        self.steady = [f"steady-{number}" for number in range(plan.num_streams)]
        self.sets = [[f"{one}-{number}" for number in range(plan.num_storm)] for one in "ab"]
        for seed, name in enumerate([*self.steady, *self.sets[0], *self.sets[1]]):
            make_adapter(plan.size, work / "made" / name, seed, plan.rank)
        for seed, name in enumerate(self.steady[:2]):
            make_adapter(plan.size, work / "store-of-two" / name, seed, plan.rank)

    def storms(self) -> tuple[list[Latencies], list[Latencies]]:
        """Of each run: cold, warm."""
        cold, warm = [], []
        num_streams, num_storm = self.plan.num_streams, self.plan.num_storm
        one = 4 * self.plan.size.num_adapter_weights(self.plan.rank)
        on_device = num_streams + num_storm // 4
        budgets = {
            "host_adapter_bytes": one * (num_streams + num_storm) + one // 2,
            "device_adapter_bytes": (one + (64 << 10)) * on_device,
            # The second run of a set sends the same prompts.
            "prefix_cache": False,
        }
        with Server(self.base, self.work, **budgets) as server:
            self._upload(server)
            for name in [*self.sets[0], *self.sets[1], *self.steady]:
                server.complete(name, [1, 2, 3], max_tokens=1)
            for name in self.steady:
                pinned = server.client.patch(f"/v1/adapters/{name}", json={"pinned": True})
                pinned.raise_for_status()
            for number in range(self.plan.num_runs):
                names = self.sets[number % 2]
                self._forget_pages()
                cold.append(self._run(server, names, num_loads=num_storm))
                warm.append(self._run(server, names, num_loads=0))
        return cold, warm

    def _upload(self, server: Server) -> None:
        """Compiled now, so that a cold load is a read of what lies in the cache folder."""
        folders = sorted((self.work / "made").iterdir())
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda folder: server.upload(folder.name, folder), folders)
            assert {answer.status_code for answer in answers} == {201}

    def _run(self, server: Server, names: list[str], num_loads: int) -> Latencies:
        before = server.metric("repertoire_adapter_tier_loads_total", tier="host")
        latencies = asyncio.run(self._storm(server.url, names))
        found = server.metric("repertoire_adapter_tier_loads_total", tier="host") - before
        assert found == num_loads, f"{found} loads from disk, not {num_loads}"
        return latencies

    async def _storm(self, url: str, names: list[str]) -> Latencies:
        plan, draw = self.plan, random.Random(7)
        seconds = sorted(draw.uniform(0, plan.storm_seconds) for _ in names)
        arrivals = [
            (plan.lead_seconds + second, Wish(name, 24, 8))
            for second, name in zip(seconds, names, strict=True)
        ]
        steady, storm = Traffic(url, seed=1), Traffic(url, seed=2)
        start = perf_counter() + plan.lead_seconds
        async with steady.client() as calm, storm.client() as stormy:
            streams = [steady.loop(calm, Wish(name, 32, 32), 0) for name in self.steady]
            await during(streams, lambda: storm.all_at(stormy, arrivals))
        return Latencies.of(steady.answers, start, start + plan.storm_seconds)

    def _forget_pages(self) -> None:
        """So that what is on disk is read from there, as far as the system lets it go."""
        if not hasattr(os, "posix_fadvise"):
            return
        for path in (self.work / "cache" / "adapters").glob("*.terms"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def shares(self, policy: str) -> tuple[float, float]:
        """Tokens of the light one per token of the one that sends ten times as much: two tenants,
        two adapters of one tenant."""
        settings = {
            "scheduling_policy": policy,
            "max_num_seqs": self.plan.num_places,
            "api_key": OPERATOR,
        }
        with Server(self.base, self.work, store=self.work / "store-of-two", **settings) as server:
            server.client.headers["Authorization"] = f"Bearer {OPERATOR}"
            many, few = (_new_tenant(server, f"{name}-{policy}") for name in ("heavy", "light"))
            model, other = self.steady[:2]
            return (
                asyncio.run(self._share(server.url, (model, many), (model, few))),
                asyncio.run(self._share(server.url, (model, many), (other, many))),
            )

    async def _share(self, url: str, heavy: tuple[str, str], light: tuple[str, str]) -> float:
        """Both always have more to do than there are places."""
        plan, traffics = self.plan, (Traffic(url, seed=3), Traffic(url, seed=4))
        clients = [one.client() for one in traffics]
        streams = [
            traffic.loop(client, Wish(model, 8, 24, key), number)
            for traffic, client, (model, key), count in zip(
                traffics, clients, (heavy, light), (10, 1), strict=True
            )
            for number in range(count * plan.num_places)
        ]
        await during(streams, lambda: asyncio.sleep(plan.lead_seconds + plan.share_seconds))
        for client in clients:
            await client.aclose()
        stop = max(one.tokens[-1] for one in traffics[0].answers if one.tokens)
        heavy_tokens, light_tokens = (
            sum(stop - plan.share_seconds <= at for one in traffic.answers for at in one.tokens)
            for traffic in traffics
        )
        return light_tokens / heavy_tokens


def _new_tenant(server: Server, name: str) -> str:
    """A key of it."""
    server.client.post("/v1/tenants", json={"name": name}).raise_for_status()
    made = server.client.post("/v1/keys", json={"role": "use", "tenant": name})
    made.raise_for_status()
    secret: str = made.json()["secret"]
    return secret


def report(plan: Plan, work: Path) -> str:
    bench = Bench(plan, work)
    cold, warm = bench.storms()
    share = 100 * plan.size.num_adapter_weights(plan.rank) / plan.size.num_weights
    lines = [
        machine_class(),
        f"base of {plan.size.num_weights / 1e6:.1f} million weights, adapters of {share:.1f} %",
        "",
        f"{plan.num_streams} steady streams beside a storm of {plan.num_storm} adapters in "
        f"{plan.storm_seconds:g} s; median of {plan.num_runs} alternating runs, ms",
        f"{'':30}{'warm':>9}{'cold':>9}{'cold/warm':>11}",
    ]
    for label, name in (
        ("time to first token, p99", "first_p99"),
        ("inter-token latency, p99", "between_p99"),
        ("inter-token latency, median", "between_p50"),
    ):
        one, other = (median(getattr(run, name) for run in runs) for runs in (warm, cold))
        lines.append(f"{label:30}{one:9.1f}{other:9.1f}{other / one:11.2f}")
    lines += ["", f"{'tokens of 1x load / of 10x':30}{'tenants':>9}{'adapters':>9}"]
    for policy in plan.policies:
        tenants, adapters = bench.shares(policy)
        lines.append(f"{policy:30}{tenants:9.2f}{adapters:9.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a form that only shows it works")
    plan = SHORT if parser.parse_args().quick else FULL
    started = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        print(report(plan, Path(folder)))  # noqa: T201
    print(f"\n{perf_counter() - started:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
