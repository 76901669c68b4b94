"""What native kernels and packed weights gain, each and together."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

from tests.bench.engine.figures import Figure
from tests.bench.engine.runs import median_ratio, take_turns
from tests.bench.engine.setup import Setup

_ARMS = {
    "both": {"native_kernels": True, "packed_weights": True},
    "packed weights alone": {"native_kernels": False, "packed_weights": True},
    "native kernels alone": {"native_kernels": True, "packed_weights": False},
    "neither": {"native_kernels": False, "packed_weights": False},
}


def measure(setup: Setup) -> Iterator[Figure]:
    base, width = setup.small, setup.load.few
    adapters = setup.same_rank(base)[:width]
    with ExitStack() as stack:
        arms = {}
        for number, (arm, switches) in enumerate(_ARMS.items()):
            store = setup.work / f"kernels-{number}"
            server = stack.enter_context(setup.server(base, adapters, store=store, **switches))
            arms[arm] = partial(setup.run, server, base, adapters, width, num_requests=width)
            arms[arm]()
        runs = take_turns(arms, setup.load.rounds[base])
    speed = {arm: [run.tokens_per_s for run in some] for arm, some in runs.items()}
    step = {arm: median(run.step_ms for run in some) for arm, some in runs.items()}
    for arm in list(_ARMS)[:-1]:
        yield Figure(
            f"{base}, c={width}, {width} adapters: {arm} / neither",
            median_ratio(speed[arm], speed["neither"]),
            note=f"a decode step of {step[arm]:.1f} ms in place of {step['neither']:.1f}",
        )
