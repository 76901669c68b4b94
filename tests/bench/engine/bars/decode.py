"""One answer alone, against what the machine can read and multiply."""

from collections.abc import Iterator
from functools import partial
from statistics import median

from tests.bench.engine.figures import Figure
from tests.bench.engine.floors import multiply_flop_per_s, read_bytes_per_s
from tests.bench.engine.runs import Run
from tests.bench.engine.setup import Setup
from tests.bench.random_llama import Size

LIMITS = {"base-s": 0.45, "base-m": 0.65}


def measure(setup: Setup) -> Iterator[Figure]:
    for base in setup.bases:
        rounds = range(setup.load.rounds[base])
        with setup.server(base) as server:
            dtype = server.client.get("/version").json()["dtype"]
            run = partial(setup.run, server, base, [base], 1)
            run(num_requests=1)
            before = read_bytes_per_s()
            runs = [run(num_requests=2) for _ in rounds]
            bytes_per_s = max(before, read_bytes_per_s())
            long = partial(run, num_requests=1, num_prompt=setup.load.long_prompt, num_output=1)
            prefills = [long() for _ in rounds]
        yield _decode(base, setup.load.sizes[base], runs, bytes_per_s)
        yield _prefill(setup, base, dtype, prefills)


def _decode(base: str, size: Size, runs: list[Run], bytes_per_s: float) -> Figure:
    """Of bytes as the file has them: another dtype in memory is no excuse."""
    table = size.vocabulary * size.hidden
    step, floor = median(run.step_ms for run in runs), 2000 * size.num_parameters / bytes_per_s
    without = floor * (1 - table / size.num_parameters)
    note = (
        f"{floor:.1f} ms at {bytes_per_s / 1e9:.1f} GB/s; a step takes {step:.1f} ms; without the "
        f"embedding table, of which a step reads one row: {without / step:.2f}"
    )
    assert floor <= step, f"faster than possible, so the floor was disturbed: {note}"
    name = f"{base}: reading the file once / decode step, c=1"
    return Figure(name, floor / step, at_least=LIMITS.get(base), note=note)


def _prefill(setup: Setup, base: str, dtype: str, runs: list[Run]) -> Figure:
    size = setup.load.sizes[base]
    best = multiply_flop_per_s(size.hidden, size.inner, dtype)
    seconds = median(first for run in runs for first in run.firsts)
    rate = 2 * size.num_weights * setup.load.long_prompt / seconds
    note = (
        f"{rate / 1e9:,.0f} of {best / 1e9:,.0f} GFLOP/s in {dtype}; attention is not counted, "
        f"{setup.load.long_prompt} tokens in {seconds:.2f} s"
    )
    return Figure(f"{base}: prefill / one large multiplication", rate / best, note=note)
