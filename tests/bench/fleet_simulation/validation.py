"""The scenario of `make fleet`'s comparison (tests/fleet/routing.py), predicted.

Two replicas, 60 small adapters of three sizes in a memory for half of them, eight clients of which
each asks again when it is answered: first in turn, then, with memory as it is, by adapter.
"""

import random
from collections.abc import Mapping
from statistics import median

from tokenizers import Tokenizer

from service.core import AdapterRef, GenerationRequest, SamplingParams
from tests.bench.fleet_simulation.fleet import Fleet
from tests.bench.fleet_simulation.memory import Memory
from tests.bench.fleet_simulation.profile import measured, measured_profile
from tests.bench.fleet_simulation.routers import ROUTERS, Knobs
from tests.fleet.answers import SMALL_TASKS, Question
from tests.fleet.load import Catalog
from tests.fleet.routing import EXPONENT, NUM_ADAPTERS
from tests.fleet.run import FULL, SMALL_MEMORY
from tests.server import ROOT

MEASURED = {"round robin": 0.745, "bounded hash": 0.895}
"""Shares of requests that found their adapter in memory, as `make fleet` measured them: a real
fleet of two server processes behind HAProxy."""
_DISK = 1 << 30
_BEFORE = 400
"""Requests that have filled memory: the real fleet has served others before."""


def predict(ring: int = 0, seconds: float = FULL.routing_s) -> Mapping[str, float]:
    fleet = Fleet(
        "round robin",
        2,
        measured_profile("demo"),
        Memory(SMALL_MEMORY["device_adapter_bytes"], SMALL_MEMORY["host_adapter_bytes"], _DISK),
        Knobs(ring=ring),
    )
    clients = _Clients(fleet)
    found = {}
    for routing in MEASURED:
        fleet.router = ROUTERS[routing](fleet.sight, Knobs(ring=ring))
        found[routing] = clients.share_in_memory(FULL.num_clients, seconds)
    return found


class _Clients:
    """The same models in the same order as the clients of `make fleet` ask for."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._catalog = Catalog(random.Random(2), EXPONENT)
        self._refs: dict[str, AdapterRef] = {}
        sizes = measured()["profiles"]["demo"]["adapter_bytes"]
        for number in range(NUM_ADAPTERS):
            place = number % len(SMALL_TASKS)
            name = f"many-{number}"
            self._catalog.add(name, SMALL_TASKS[place])
            self._refs[name] = AdapterRef(name, 1, name, sizes[place])
            # Whoever takes an upload has its compiled form on the disk.
            fleet.replicas[number % 2].fill_disk([self._refs[name]])
        self._tokenizer = Tokenizer.from_file(str(ROOT / "demo" / "demo-base" / "tokenizer.json"))
        self._numbers = 0
        draw = random.Random(3)
        before = (self._refs[self._catalog.pick(draw)[0]] for _ in range(_BEFORE))
        fleet.warm(before, under_way=FULL.num_clients, poll_every=_BEFORE)

    def share_in_memory(self, num_clients: int, seconds: float) -> float:
        """After a third of the time, in which memory fills."""
        fleet, begin = self._fleet, self._fleet.calendar.now
        warm, end = begin + seconds / 3, begin + seconds * 4 / 3
        before = set(fleet.asked)
        draws = [random.Random(f"1 {number}") for number in range(num_clients)]

        def ask(draw: random.Random) -> None:
            if fleet.calendar.now < end:
                request = self._request(draw)
                fleet.on_end[request.request_id] = lambda: ask(draw)
                fleet.submit(request, 0)

        for draw in draws:
            ask(draw)
        fleet.calendar.run(until=lambda: fleet.num_ended == len(fleet.asked))
        counted = [
            one for name, one in fleet.asked.items() if name not in before and one.at >= warm
        ]
        return sum(one.tier in ("device", "host") for one in counted) / len(counted)

    def _request(self, draw: random.Random) -> GenerationRequest:
        model, question = self._catalog.pick(draw)
        draw.random()  # whether it is a stream
        self._numbers += 1
        prompt_ids, num_tokens = self._lengths(question)
        params = SamplingParams(num_tokens, ignore_eos=True, seed=0)
        ref = self._refs[model]
        return GenerationRequest(f"v{self._numbers}", prompt_ids, params, ref)

    def _lengths(self, question: Question) -> tuple[tuple[int, ...], int]:
        """The prompt, and the tokens of the answer with its end."""
        prompt = tuple(self._tokenizer.encode(question.prompt).ids)
        return prompt, len(self._tokenizer.encode(question.answer).ids) + 1


def report(num_rings: int) -> str:
    """A table: predicted and measured."""
    predictions = [predict(ring) for ring in range(num_rings)]
    lines = ["| routing | predicted | on other rings | measured |", "|---|---:|---:|---:|"]
    for routing, measured_share in MEASURED.items():
        shares = [one[routing] for one in predictions]
        lines.append(
            f"| {routing} | {100 * median(shares):.1f} % | {100 * min(shares):.1f} to"
            f" {100 * max(shares):.1f} % | {100 * measured_share:.1f} % |"
        )
    return "\n".join(lines)
