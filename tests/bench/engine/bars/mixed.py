"""Many adapters in one batch, against the base alone."""

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

from tests.bench.engine.figures import Figure
from tests.bench.engine.floors import read_bytes_per_s
from tests.bench.engine.runs import Run, median_ratio, take_turns
from tests.bench.engine.setup import RANK, Setup
from tests.server import Server

LIMITS = {"few": 0.88, "many": 0.80, "one": 0.93}


def measure(setup: Setup) -> Iterator[Figure]:
    for base in setup.bases:
        same, mixed = setup.same_rank(base), setup.mixed_rank(base)
        with setup.server(base, [*same, *mixed]) as server:
            yield from _at(setup, server, base, setup.load.few, "few", same, mixed)
            yield from _at(setup, server, base, setup.load.many, "many", same, [])


def _at(
    setup: Setup,
    server: Server,
    base: str,
    width: int,
    limit: str,
    same: Sequence[str],
    mixed: Sequence[str],
) -> Iterator[Figure]:
    models = {"base": [base], "one": same[:1], "all": same[:width], "mixed": mixed}
    arms = {
        name: partial(setup.run, server, base, chosen, width)
        for name, chosen in models.items()
        if chosen
    }
    setup.run(server, base, models["all"], width, num_requests=width)
    runs = take_turns(arms, setup.load.rounds[base])
    label = f"{base}, c={width}"
    speed = {name: [run.tokens_per_s for run in some] for name, some in runs.items()}
    ratio = {name: median_ratio(some, speed["base"]) for name, some in speed.items()}
    yield Figure(f"{label}: base alone", median(speed["base"]), "tokens/s")
    yield Figure(
        f"{label}: {width} adapters of rank {RANK} / base", ratio["all"], at_least=LIMITS[limit]
    )
    yield Figure(f"{label}: one adapter for all / base", ratio["one"], at_least=LIMITS["one"])
    if mixed:
        yield Figure(f"{label}: {len(mixed)} adapters of ranks 8 to 64 / base", ratio["mixed"])
    yield _beyond_a_read(setup, label, runs, width * setup.adapter_bytes(base, RANK))


def _beyond_a_read(setup: Setup, label: str, runs: dict[str, list[Run]], num_bytes: int) -> Figure:
    added, alone = (median(run.step_ms for run in runs[name]) for name in ("all", "base"))
    read = 1000 * num_bytes / read_bytes_per_s()
    note = f"a step of {alone:.1f} ms takes {added - alone:.1f} more, a read {read:.1f}"
    return Figure(f"{label}: decode step, beyond one read", added - alone - read, "ms", note=note)
