"""Clients of a running server that write down when each token came."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

import httpx

VOCABULARY = range(10, 120)


@dataclass(frozen=True, slots=True)
class Wish:
    model: str
    num_prompt: int
    max_tokens: int
    key: str = ""


@dataclass(slots=True)
class Times:
    """One answer: when it was asked for, and when each of its tokens came."""

    asked: float
    tokens: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Traffic:
    """Seeded: the same prompts in the same order for the same seed."""

    url: str
    seed: int = 0
    answers: list[Times] = field(default_factory=list)

    async def ask(self, client: httpx.AsyncClient, wish: Wish, draw: random.Random) -> Times:
        times = Times(perf_counter())
        self.answers.append(times)
        body = {
            "model": wish.model,
            "prompt": [draw.choice(VOCABULARY) for _ in range(wish.num_prompt)],
            "max_tokens": wish.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        headers = {"Authorization": f"Bearer {wish.key}"} if wish.key else {}
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
            if answer.status_code != 200:
                raise AssertionError((await answer.aread()).decode())
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and '"text":""' not in line:
                    times.tokens.append(perf_counter())
        return times

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits)

    async def loop(self, client: httpx.AsyncClient, wish: Wish, number: int) -> None:
        """One after the other until cancelled: a steady stream."""
        draw = random.Random(f"{self.seed} {wish.model} {number}")
        while True:
            await self.ask(client, wish, draw)

    async def all_at(self, client: httpx.AsyncClient, arrivals: list[tuple[float, Wish]]) -> None:
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
