"""What happens to a fleet under load. Each returns what it measured; nothing here judges."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import httpx

from tests.fleet.fleet import NAMES, Fleet

NOTICED_SECONDS = 30.0
REDIS_AWAY = "Redis away"
BUCKET_AWAY = "bucket away"


@dataclass(slots=True)
class Phase:
    name: str
    start: float
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class Kill:
    replica: str
    at: float
    seconds_until_noticed: float
    """By the balancer."""
    seconds_until_back: float
    """From its start until the balancer sends it requests again."""


@contextmanager
def phase(phases: list[Phase], name: str) -> Iterator[None]:
    phases.append(Phase(name, monotonic()))
    try:
        yield
    finally:
        phases[-1].end = monotonic()


async def kill(fleet: Fleet, number: int, seconds_alone: float) -> Kill:
    replica, other = fleet.replicas[number], NAMES[1 - number]
    at = monotonic()
    replica.kill()
    await fleet.wait_until_up(other)
    noticed = monotonic()
    await asyncio.sleep(seconds_alone)
    started = monotonic()
    replica.start()
    await replica.started()
    await fleet.wait_until_up(*NAMES)
    return Kill(replica.name, at, noticed - at, monotonic() - started)


async def rolling_restart(
    fleet: Fleet, numbers: Sequence[int], last_settings: Mapping[str, object]
) -> list[int]:
    """One after the other, as a deployment does it; the exit codes. `last_settings` hold for the
    fleet's last replica from its new start on."""
    codes = []
    for replica in (fleet.replicas[number] for number in numbers):
        codes.append(await replica.stop())
        if replica is fleet.replicas[-1]:
            replica.settings |= last_settings
        replica.start()
        await replica.started()
        await fleet.wait_until_up(*NAMES)
    return codes


async def redis_outage(fleet: Fleet, seconds: float) -> list[str]:
    """It comes back with nothing. What was not as it has to be meanwhile."""
    return await _outage(fleet, fleet.redis.kill, fleet.redis.start, seconds)


async def bucket_outage(fleet: Fleet, seconds: float) -> list[str]:
    """It comes back with all that it had."""
    assert fleet.store.objects is not None
    return await _outage(fleet, fleet.store.objects.stop, fleet.store.objects.start, seconds)


async def _outage(
    fleet: Fleet, begin: Callable[[], None], end: Callable[[], None], seconds: float
) -> list[str]:
    await asyncio.to_thread(begin)
    problems = []
    for replica, client in zip(fleet.replicas, fleet.clients, strict=True):
        problems += [f"{replica.name}: {one}" for one in await _degraded(client)]
    await asyncio.sleep(seconds)
    await asyncio.to_thread(end)
    return problems


async def _degraded(client: httpx.AsyncClient) -> list[str]:
    """Once it has noticed that something is away."""
    async with asyncio.timeout(NOTICED_SECONDS):
        while True:
            ready = await client.get("/ready")
            if ready.json()["status"] == "degraded":
                break
            await asyncio.sleep(0.05)
    change = await client.post("/v1/keys", json={"role": "use"})
    problems = [] if ready.status_code == 200 else [f"/ready is {ready.status_code}: no balancer"]
    if change.status_code != 503 or not change.headers.get("retry-after", "").isdigit():
        problems.append(f"a change meanwhile is {change.status_code} {change.text[:200]}")
    return problems


OVERLONG: dict[str, object] = {"drain_timeout_s": 0.5, "drain_delay_s": 0}


async def overlong_stream(fleet: Fleet) -> str:
    """How a stream ends that is longer than the drain time of its replica, which has `OVERLONG`."""
    replica, client = fleet.replicas[-1], fleet.clients[-1]
    body = {"model": "roman", "prompt": "1 =>", "max_tokens": 500, "n": 16, "ignore_eos": True}
    last = ""
    try:
        async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if not last:
                    replica.signal(signal.SIGTERM)
                if line.startswith("data: {"):
                    last = line.removeprefix("data: ")
    except httpx.TransportError as error:
        return f"cut off: {type(error).__name__}"
    frame, code = json.loads(last), await replica.ended()
    return f"error {frame['error']['code']}, exit code {code}" if "error" in frame else "no error"
