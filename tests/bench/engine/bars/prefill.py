"""Long prompts beside running streams, and prompts whose beginning is known."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from tests.bench.connections import Connections
from tests.bench.engine.figures import Figure
from tests.bench.engine.runs import Window, split_gaps
from tests.bench.engine.setup import Setup
from tests.bench.traffic import Traffic, Wish, during, percentile
from tests.server import Server
from tests.waiting import until_async

BETWEEN, FIRST, KNOWN = 2.5, 2.0, 0.15
"""Limits: of inter-token latency, of the long prompts' first token, of a known beginning."""


def measure(setup: Setup) -> Iterator[Figure]:
    base = setup.small
    with setup.server(base) as server:
        setup.run(server, base, [base], setup.load.few)
        yield from asyncio.run(_Beside(setup, server, base).measure())
        yield _known_beginning(setup, server, base)


@dataclass(frozen=True, slots=True)
class _Beside:
    setup: Setup
    server: Server
    base: str

    async def measure(self) -> list[Figure]:
        load, long = self.setup.load, self.setup.traffic(self.server, self.base)
        running = self.setup.traffic(self.server, self.base)
        rounds = range(load.rounds[self.base])
        async with long.client() as client, running.client() as calm:
            alone = [await self._long(long, client) for _ in rounds]
            streams = [self._stream(running, calm, number) for number in range(load.few)]
            beside: list[Window] = []

            def all_run() -> bool:
                return sum(bool(one.tokens) for one in running.answers) == load.few

            async def work() -> None:
                await until_async(all_run, within_s=120)
                for _ in rounds:
                    await asyncio.sleep(load.quiet_s)
                    beside.append(await self._long(long, client))

            await during(streams, work)
        # Not what the streams' own prompts have cost.
        start = max(one.tokens[0] for one in running.answers)
        disturbed, quiet = split_gaps(running.answers, beside, since=start)
        between = [1000 * percentile(some, 0.99) for some in (disturbed, quiet)]
        firsts = [median(stop - start for start, stop in some) for some in (beside, alone)]
        what = f"{self.base}: {load.few} streams beside prompts of {load.long_prompt}"
        return [
            Figure(
                f"{what}, p99 between tokens / quiet",
                between[0] / between[1],
                at_most=BETWEEN,
                note=f"{between[0]:.1f} and {between[1]:.1f} ms; a long prompt each time that"
                f" {load.quiet_s:g} s have passed since the last one's first token",
            ),
            Figure(
                f"{what}, their first token / without streams",
                firsts[0] / firsts[1],
                at_most=FIRST,
                note=f"{firsts[0]:.2f} and {firsts[1]:.2f} s",
            ),
        ]

    async def _long(self, traffic: Traffic, client: Connections) -> Window:
        wish = Wish(self.base, self.setup.load.long_prompt, 1)
        answer = await traffic.ask(client, wish, random.Random())
        return answer.asked, answer.tokens[0]

    async def _stream(self, traffic: Traffic, client: Connections, number: int) -> None:
        load = self.setup.load
        length = self.setup.load.sizes[self.base].max_positions - load.num_prompt
        await traffic.ask(client, Wish(self.base, load.num_prompt, length), random.Random(number))
        raise AssertionError("a stream has ended before the long prompts were through")


def _known_beginning(setup: Setup, server: Server, base: str) -> Figure:
    """Both prompts differ only in their last tokens."""
    load = setup.load
    num_shared = load.long_prompt // 2
    seconds: list[list[float]] = [[], []]
    for number in range(load.rounds[base]):
        traffic = setup.traffic(server, base)
        draw = random.Random(traffic.seed)
        shared = tuple(draw.choice(traffic.vocabulary) for _ in range(num_shared))
        for position in range(2):
            ending = (traffic.vocabulary[2 * number + position],) * load.num_own
            wish = Wish(base, 0, 1, prompt=(*shared, *ending))
            seconds[position].append(asyncio.run(_first(traffic, wish)))
    first, second = map(median, seconds)
    return Figure(
        f"{base}: first token behind {num_shared} known tokens / unknown",
        second / first,
        at_most=KNOWN,
        note=f"{1000 * second:.0f} and {1000 * first:.0f} ms, {load.num_own} tokens more",
    )


async def _first(traffic: Traffic, wish: Wish) -> float:
    async with traffic.client() as client:
        return (await traffic.ask(client, wish, random.Random())).first
