"""Clients of a running server that write down when each token came."""

import asyncio
import json
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

from tests.bench.connections import Connections


@dataclass(frozen=True, slots=True)
class Wish:
    model: str
    num_prompt: int
    max_tokens: int
    key: str = ""
    prompt: str | tuple[int, ...] = ()
    """Drawn afresh for every answer if it is empty."""


@dataclass(slots=True)
class Times:
    """One answer: when it was asked for, when its tokens came, and how many the server counts.

    A token whose text waits for the next one's bytes comes with that one.
    """

    asked: float
    tokens: list[float] = field(default_factory=list)
    num_tokens: int = 0
    _rest: bytes = b""

    @property
    def first(self) -> float:
        """Seconds from the question to the first token."""
        return self.tokens[0] - self.asked

    def take(self, data: bytes, now: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"error"'):
                raise AssertionError(line.decode())
            if b'"choices":[]' in line:
                usage = json.loads(line.removeprefix(b"data: "))["usage"]
                self.num_tokens = usage["completion_tokens"]
            elif line.startswith(b"data: {") and self._is_token(line):
                self.tokens.append(now)

    def _is_token(self, line: bytes) -> bool:
        """An end without text is no token of its own, unless it is the only thing that came."""
        return b'"text":""' not in line or (not self.tokens and b'"finish_reason":"' in line)


@dataclass(slots=True)
class Traffic:
    """Seeded: the same prompts in the same order for the same seed."""

    url: str
    seed: int = 0
    vocabulary: range = range(10, 120)
    answers: list[Times] = field(default_factory=list)

    async def ask(self, client: Connections, wish: Wish, draw: random.Random) -> Times:
        fresh = [draw.choice(self.vocabulary) for _ in range(wish.num_prompt)]
        body = {
            "model": wish.model,
            "prompt": wish.prompt or fresh,
            "max_tokens": wish.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        times = Times(perf_counter())
        self.answers.append(times)
        await client.post("/v1/completions", body, wish.key, times.take)
        return times

    def client(self) -> Connections:
        return Connections(self.url)

    async def loop(self, client: Connections, wish: Wish, number: int) -> None:
        """One after the other until cancelled: a steady stream."""
        draw = random.Random(f"{self.seed} {wish.model} {number}")
        while True:
            await self.ask(client, wish, draw)

    async def closed_loop(self, client: Connections, wishes: list[Wish], width: int) -> None:
        """All of them, `width` at a time."""
        waiting = iter(wishes)

        async def work(number: int) -> None:
            draw = random.Random(f"{self.seed} {number}")
            for wish in waiting:
                await self.ask(client, wish, draw)

        await asyncio.gather(*map(work, range(width)))

    async def all_at(self, client: Connections, arrivals: list[tuple[float, Wish]]) -> None:
        """Each at its second from now, whether or not those before it have ended."""
        draw, start = random.Random(self.seed), perf_counter()

        async def one(second: float, wish: Wish) -> None:
            await asyncio.sleep(max(0.0, start + second - perf_counter()))
            await self.ask(client, wish, draw)

        await asyncio.gather(*(one(second, wish) for second, wish in arrivals))


async def during(steady: list[Awaitable[None]], work: Callable[[], Awaitable[None]]) -> None:
    """Run `steady` until `work` has ended; a steady stream that fails ends everything."""
    tasks = [asyncio.ensure_future(one) for one in steady]
    main = asyncio.ensure_future(work())
    try:
        await asyncio.wait({main, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, main):
            if task.done():
                task.result()
        await main
    finally:
        for task in (*tasks, main):
            task.cancel()
        await asyncio.gather(*tasks, main, return_exceptions=True)


def percentile(values: list[float], share: float) -> float:
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
