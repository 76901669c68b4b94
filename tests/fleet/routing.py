"""What it is worth that the balancer knows adapters: the same load, routed by name and in turn."""

import asyncio
import random
from time import monotonic

from tests.fleet.answers import SMALL_TASKS, content
from tests.fleet.changes import Changes
from tests.fleet.fleet import OPERATOR, Fleet
from tests.fleet.load import Catalog, Load, Outcome

NUM_ADAPTERS = 60
EXPONENT = 0.9
IN_MEMORY = ("device", "host")

Loads = dict[str, tuple[list[Outcome], float]]
"""By routing: every request, and the share of those whose adapter was in memory."""


async def compare(fleet: Fleet, changes: Changes, num_clients: int, seconds: float) -> Loads:
    """Each for so long, after a third of that in which memory fills."""
    catalog = await _many_adapters(fleet, changes)
    loads: Loads = {}
    with fleet.blind_balancer() as blind:
        for name, url in (("round robin", blind.url), ("adapter-aware", fleet.balancer.url)):
            load = Load(url, OPERATOR, catalog, seed=1)
            load.start(num_clients)
            await asyncio.sleep(seconds / 3)
            warm = monotonic()
            await asyncio.sleep(seconds)
            await load.stop()
            loads[name] = load.outcomes, _share_in_memory(load.outcomes, warm)
    return loads


async def _many_adapters(fleet: Fleet, changes: Changes) -> Catalog:
    catalog = Catalog(random.Random(2), EXPONENT)
    for number in range(NUM_ADAPTERS):
        name, task = f"many-{number}", SMALL_TASKS[number % len(SMALL_TASKS)]
        files = await asyncio.to_thread(content, task, number, fleet.work)
        await changes.publish(name, files)
        catalog.add(name, task)
    return catalog


def _share_in_memory(outcomes: list[Outcome], start: float) -> float:
    tiers = [one.tier for one in outcomes if one.started >= start and one.tier]
    return sum(tier in IN_MEMORY for tier in tiers) / len(tiers) if tiers else 0.0
