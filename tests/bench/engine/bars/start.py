"""Until a server has started, and the memory that it takes."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

from tests.bench.engine.figures import Figure
from tests.bench.engine.processes import anonymous_bytes
from tests.bench.engine.setup import Setup

SECONDS, MEMORY = 8.0, 1.0
_BUDGETS = {
    "kv_bytes": 512 << 20,
    "device_adapter_bytes": 512 << 20,
    "host_adapter_bytes": 512 << 20,
}
_WEIGHTS_SHARE = 1.15
_OTHER_BYTES = 500_000_000


def measure(setup: Setup) -> Iterator[Figure]:
    base, load = setup.small, setup.load
    adapters = setup.same_rank(base)
    with setup.server(base, adapters, **_BUDGETS) as server:
        setup.run(server, base, adapters, load.many, num_requests=2 * load.many)
        used = anonymous_bytes(server.process.pid)
    weights = setup.number_bytes * load.sizes[base].num_parameters
    allowed = _WEIGHTS_SHARE * weights + sum(_BUDGETS.values()) + _OTHER_BYTES
    seconds = [_seconds_to_first_token(setup, base) for _ in range(load.rounds[base])]
    yield Figure(
        f"{base}: from the start of the process to its first token",
        median(seconds),
        "s",
        at_most=SECONDS,
        note="files in the page cache, kernels compiled by an earlier start",
    )
    yield Figure(
        f"{base}: anonymous memory / ({_WEIGHTS_SHARE} times weights + budgets + 0.5 GB)",
        used / allowed,
        at_most=MEMORY,
        note=f"{used / 1e6:,.0f} of {allowed / 1e6:,.0f} MB, weights {weights / 1e6:,.0f}; after"
        f" {2 * load.many} answers of {len(adapters)} adapters; without the compiler's process",
    )


def _seconds_to_first_token(setup: Setup, base: str) -> float:
    started = perf_counter()
    with setup.server(base, **_BUDGETS) as server:
        server.complete(base, "Hello", max_tokens=1)
        return perf_counter() - started
