"""`make bench-eviction`: eviction policies on a Zipf trace, at several sizes of host memory.

The residency is the real one; how long a load takes is measured first. Ends with a short run of a
real server, which must rank the policies the same way.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from service.adapters.eviction import POLICIES
from tests.bench.eviction_live import compare
from tests.bench.eviction_load_cost import measure
from tests.bench.eviction_trace import MIB, LoadCost, Outcome, Replay, make_trace
from tests.bench.machine_class import machine_class

SHARES = (0.05, 0.1, 0.2, 0.4)
"""Host memory, of the bytes of all adapters; the device has a quarter of it."""
EXPONENTS = (0.8, 1.1)
COLUMNS: tuple[tuple[str, Callable[[Outcome], float], str], ...] = (
    ("hit rate", lambda one: 100 * one.hit_rate, "{:.1f} %"),
    ("GiB loaded", lambda one: one.loaded_bytes / (1 << 30), "{:.1f}"),
    ("load s", lambda one: one.load_seconds, "{:.2f}"),
    ("p99 wait ms", lambda one: 1000 * one.wait_at(0.99), "{:.1f}"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of it, to see that it works")
    is_short = parser.parse_args().short
    seeds, num_adapters, num_requests = (1, 100, 3000) if is_short else (3, 400, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cost = measure(work / "cost")
        say(f"machine: {machine_class()}")
        say(
            f"a load: {1000 * cost.fixed_s:.2f} ms and {1 / cost.s_per_byte / (1 << 30):.1f} GiB/s"
            f" (compiled files of 0.25 to 64 MiB in the page cache)"
        )
        say(f"{num_adapters} adapters, {num_requests} requests, median of {seeds} traces\n")
        say(f"| zipf | host memory | policy | {' | '.join(name for name, _, _ in COLUMNS)} |")
        say(f"|---|---|---|{'---:|' * len(COLUMNS)}")
        for row in rows(cost, seeds, num_adapters, num_requests):
            say(row)
        adapters, requests = (12, 100) if is_short else (24, 400)
        live = compare(work / "live", sorted(POLICIES), adapters, requests)
    say(f"\na real server, {adapters} adapters, {requests} requests over HTTP:")
    for policy, one in live.items():
        say(f"  {policy}: {one.loads:.0f} loads, {1000 * one.load_seconds:.0f} ms in all")
    say(f"  gdsf loads less often: {'yes' if live['gdsf'].loads < live['lru'].loads else 'NO'}")


def rows(cost: LoadCost, seeds: int, num_adapters: int, num_requests: int) -> Iterator[str]:
    for exponent in EXPONENTS:
        traces = [
            make_trace(seed, cost, num_adapters, num_requests, exponent) for seed in range(seeds)
        ]
        for share in SHARES:
            for policy in sorted(POLICIES):
                budgets = [max(int(share * one.num_bytes), 130 * MIB) for one in traces]
                outcomes = [
                    Replay(trace, cost, policy, budget).run()
                    for trace, budget in zip(traces, budgets, strict=True)
                ]
                shown = [text.format(median(map(read, outcomes))) for _, read, text in COLUMNS]
                yield f"| {exponent} | {100 * share:.0f} % | {policy} | {' | '.join(shown)} |"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
