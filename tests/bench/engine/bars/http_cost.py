"""What HTTP, tokenizing and streaming cost beside the engine."""

import random
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import median

from tests.bench.engine.figures import Figure
from tests.bench.engine.in_process import Loop, in_process
from tests.bench.engine.models import FIRST_WORD, training_text
from tests.bench.engine.processes import seconds_beside_the_engine
from tests.bench.engine.runs import median_ratio, take_turns
from tests.bench.engine.setup import Setup
from tests.server import Server

MICROSECONDS = 120.0
_CHARACTERS_PER_TOKEN = 4


def measure(setup: Setup) -> Iterator[Figure]:
    base, load = setup.small, setup.load
    store = setup.work / "served-in-process"
    store.mkdir(exist_ok=True)
    settings = setup.settings | {
        "base_model": setup.base(base),
        "adapters_store": store,
        "warm_compiler": False,
    }
    words = FIRST_WORD, load.sizes[base].vocabulary
    loop = Loop(load.many, load.many, load.num_prompt, load.num_output, words)
    with setup.server(base) as server, in_process(settings) as engine:
        arms = {
            "http": lambda: setup.run(server, base, [base], load.many).tokens_per_s,
            "engine": partial(engine.tokens_per_s, loop),
        }
        for arm in arms.values():
            arm()
        speed = take_turns(arms, load.rounds[base])
        costs = [_microseconds(setup, server, base) for _ in range(load.rounds[base])]
    yield Figure(
        f"{base}, c={load.many}: processor time beside the engine, for a token",
        median(costs),
        "µs",
        at_most=MICROSECONDS,
        note=f"texts of about {load.num_prompt} tokens, streamed; all threads but those that"
        " compute, among them the event loop",
    )
    yield Figure(
        f"{base}, c={load.many}: tokens/s over HTTP / in the engine's own process",
        median_ratio(speed["http"], speed["engine"]),
        note=f"{median(speed['http']):,.0f} and {median(speed['engine']):,.0f} tokens/s; the client"
        " has its share of the processors",
    )


def _microseconds(setup: Setup, server: Server, base: str) -> float:
    load = setup.load
    count = 2 * load.many
    texts = _texts(count, _CHARACTERS_PER_TOKEN * load.num_prompt)
    before = seconds_beside_the_engine(server.process.pid)
    setup.run(server, base, [base], load.many, num_requests=count, texts=texts)
    seconds = seconds_beside_the_engine(server.process.pid) - before
    return 1e6 * seconds / (count * load.num_output)


def _texts(count: int, length: int) -> list[str]:
    """That begin differently, so that no beginning is known."""
    source = "".join(islice(training_text(), 40))
    starts = [random.randrange(len(source) - length) for _ in range(count)]
    return [f"{random.randrange(1 << 60)} {source[at : at + length]}"[:length] for at in starts]
