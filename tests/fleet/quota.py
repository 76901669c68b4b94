"""A tenant that asks for more than its limit all the time: what the fleet grants it is counted."""

import asyncio
from bisect import bisect_right
from time import monotonic

import httpx

from tests.fleet.load import new_client

TENANT = "limited"
WINDOW_SECONDS = 60.0


class Greedy:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.granted: list[float] = []
        """When each request was answered, in order."""
        self.problems: list[str] = []
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    async def start(self, operator: httpx.AsyncClient, url: str, base: str) -> None:
        limits = {"requests_per_minute": self.limit}
        body = {"name": TENANT, "limits": limits}
        (await operator.post("/v1/tenants", json=body)).raise_for_status()
        key = await operator.post("/v1/keys", json={"role": "use", "tenant": TENANT})
        key.raise_for_status()
        self._task = asyncio.create_task(self._ask(url, key.json()["secret"], base))

    async def stop(self) -> None:
        self._is_over = True
        if self._task is not None:
            await self._task

    @property
    def most_in_a_window(self) -> int:
        """Requests granted within any minute."""
        times = self.granted
        return max(
            (bisect_right(times, start + WINDOW_SECONDS) - i for i, start in enumerate(times)),
            default=0,
        )

    async def _ask(self, url: str, key: str, base: str) -> None:
        body = {"model": base, "prompt": "1 =>", "max_tokens": 1, "temperature": 0}
        async with new_client(url, key) as client:
            while not self._is_over:
                try:
                    answer = await client.post("/v1/completions", json=body)
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    self.granted.append(monotonic())
                elif answer.status_code not in (401, 429, 502):
                    self.problems.append(f"quota: {answer.status_code} {answer.text[:200]}")
                await asyncio.sleep(0.05)
