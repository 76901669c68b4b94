"""One run of the whole: a fleet, its load, what happens to it, and the report."""

import asyncio
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fleet import scenarios
from tests.fleet.answers import TASKS
from tests.fleet.changes import Changes
from tests.fleet.fleet import OPERATOR, Fleet, running_fleet
from tests.fleet.ledger import Ledger
from tests.fleet.load import Catalog, Load, demo_catalog, learned
from tests.fleet.quota import Greedy
from tests.fleet.report import Report
from tests.fleet.routing import compare
from tests.fleet.scenarios import phase
from tests.fleet.traffic import Operators

BASE = "demo-base"
RECONCILED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    num_clients: int
    num_operators: int
    pause_s: float
    """Of an operator between two turns."""
    calm_s: float
    kills: tuple[int, ...]
    """Indexes of the replicas, one after the other."""
    alone_s: float
    """That the other one is alone."""
    outage_s: float
    routing_s: float
    """For each kind of routing; 0 = not compared."""
    settings: dict[str, object]
    checks: str
    """How often the balancer asks replicas; more often than in production where time is short."""


SMALL_MEMORY: dict[str, object] = {"device_adapter_bytes": 3 << 20, "host_adapter_bytes": 4 << 20}
FULL = Plan("full", 8, 2, 1.0, 15.0, (0, 1), 6.0, 10.0, 20.0, SMALL_MEMORY, "1s")
SHORT = Plan("short", 4, 1, 0.5, 1.0, (0,), 0.5, 2.0, 0.0, {}, "200ms")


async def run(plan: Plan, **settings: object) -> Report:
    """`settings` go to both replicas; a test turns off with them what is to be missed."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        work = Path(folder)
        async with running_fleet(work, {**plan.settings, **settings}, plan.checks) as fleet:
            return await _Run(plan, fleet).whole()


class _Run:
    def __init__(self, plan: Plan, fleet: Fleet) -> None:
        self.plan, self.fleet = plan, fleet
        self.report = Report(plan.name)
        self.ledger = Ledger()
        self.changes = Changes(self.ledger, fleet.operator, fleet.clients)
        self.catalog: Catalog = demo_catalog(random.Random(1))
        self.load = Load(fleet.balancer.url, OPERATOR, self.catalog)
        self.operators = Operators(self.changes, self.catalog, fleet.work, plan.pause_s)
        self.greedy = Greedy(limit=60)

    async def whole(self) -> Report:
        await self._learn()
        await self.greedy.start(self.fleet.clients[0], self.fleet.balancer.url, BASE)
        self.load.start(self.plan.num_clients)
        self.operators.start(self.plan.num_operators)
        try:
            await self._trouble()
        finally:
            await asyncio.gather(self.load.stop(), self.operators.stop(), self.greedy.stop())
        await self._judge()
        if self.plan.routing_s:
            await self._compare_routing()
        self.report.overlong = await scenarios.overlong_stream(self.fleet)
        return self.report

    async def _learn(self) -> None:
        for task in TASKS:
            one, other = [await learned(client, task) for client in self.fleet.clients]
            if one != other:
                self.report.problems.append(f"{task}: the replicas answer differently")
            self.catalog.learn(task, one)

    async def _trouble(self) -> None:
        plan, fleet, report = self.plan, self.fleet, self.report
        with phase(report.phases, "calm"):
            await asyncio.sleep(plan.calm_s)
        for number in plan.kills:
            with phase(report.phases, f"kill of {number + 1}"):
                report.kills.append(await scenarios.kill(fleet, number, plan.alone_s))
        with phase(report.phases, "Redis away"):
            await scenarios.redis_outage(fleet, plan.outage_s)
        with phase(report.phases, "Redis back, empty"):
            await asyncio.sleep(plan.calm_s)
        with phase(report.phases, "rolling restart"):
            report.restart_codes = await scenarios.rolling_restart(fleet, scenarios.OVERLONG)

    async def _judge(self) -> None:
        report = self.report
        served_by = self.fleet.served_by()
        for one in self.load.outcomes:
            one.replica = one.replica or served_by.get(one.request_id, "")
        report.outcomes = self.load.outcomes
        report.problems += [*self.changes.problems, *self.greedy.problems]
        report.seconds_until_usable = self.changes.seconds_until_usable
        report.counts = dict(self.changes.counts)
        report.acknowledged = self.ledger.num_acknowledged
        report.quota = (self.greedy.most_in_a_window, self.greedy.limit)
        report.missing = await self.ledger.missing(self.fleet.clients, RECONCILED_SECONDS)

    async def _compare_routing(self) -> None:
        plan, report = self.plan, self.report
        with phase(report.phases, "routing compared"):
            loads = await compare(self.fleet, self.changes, plan.num_clients, plan.routing_s)
        for name, (outcomes, rate) in loads.items():
            report.outcomes += outcomes
            report.hit_rates[name] = rate
