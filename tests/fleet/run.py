"""One run of the whole: a fleet, its load, what happens to it, and the report."""

import asyncio
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.fleet import scenarios
from tests.fleet.answers import TASKS, Question
from tests.fleet.changes import Changes
from tests.fleet.fleet import OPERATOR, Fleet, running_fleet
from tests.fleet.ledger import Ledger
from tests.fleet.load import Catalog, Load, demo_catalog, learned
from tests.fleet.quota import Greedy
from tests.fleet.report import Report
from tests.fleet.routing import compare
from tests.fleet.scenarios import phase
from tests.fleet.stores import bucket_store, folder_store
from tests.fleet.traffic import Operators

BASE = "demo-base"
RECONCILED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    num_clients: int
    think_s: float
    num_operators: int
    pause_s: float
    """Of an operator between two turns."""
    calm_s: float
    kills: tuple[int, ...]
    """Indexes of the replicas, one after the other."""
    alone_s: float
    """That the other one is alone."""
    outage_s: float
    restarts: tuple[int, ...]
    """The same, in the rolling restart; the last replica is among them."""
    routing_s: float
    """For each kind of routing; 0 = not compared."""
    checks: str
    """How often the balancer asks replicas; more often than in production where time is short."""
    settings: Mapping[str, object]
    """The drain delay is longer than two checks."""


SMALL_MEMORY = {"device_adapter_bytes": 3 << 20, "host_adapter_bytes": 4 << 20}
FULL = Plan(
    name="full",
    num_clients=8,
    think_s=0.0,
    num_operators=2,
    pause_s=1.0,
    calm_s=15.0,
    kills=(0, 1),
    alone_s=6.0,
    outage_s=10.0,
    restarts=(0, 1),
    routing_s=20.0,
    checks="1s",
    settings={**SMALL_MEMORY, "drain_delay_s": 4.0},
)
SHORT = Plan(
    name="short",
    num_clients=4,
    think_s=0.25,
    num_operators=1,
    pause_s=0.5,
    calm_s=1.0,
    kills=(0,),
    alone_s=0.5,
    outage_s=2.0,
    restarts=(1,),
    routing_s=0.0,
    checks="200ms",
    settings={"drain_delay_s": 1.0},
)


async def run(plan: Plan, *, has_bucket: bool = False, **settings: object) -> Report:
    """`settings` go to both replicas; a test turns off with them what is to be missed."""
    make_store = bucket_store if has_bucket else folder_store
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        work = Path(folder)
        given = {**plan.settings, **settings}
        async with running_fleet(work, make_store, given, plan.checks) as fleet:
            return await _Run(plan, fleet).whole()


class _Run:
    def __init__(self, plan: Plan, fleet: Fleet) -> None:
        self.plan, self.fleet = plan, fleet
        self.report = Report(f"{plan.name}, bucket" if fleet.store.objects else plan.name)
        self.ledger = Ledger()
        self.changes = Changes(self.ledger, fleet.operator, fleet.clients)
        self.catalog: Catalog = demo_catalog(random.Random(1))
        self.load = Load(fleet.balancer.url, OPERATOR, self.catalog, think_s=plan.think_s)
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
        one, other = await asyncio.gather(*map(_learned, self.fleet.clients))
        for task, question in one.items():
            if question != other[task]:
                self.report.problems.append(f"{task}: the replicas answer differently")
            self.catalog.learn(task, question)

    async def _trouble(self) -> None:
        plan, fleet, report = self.plan, self.fleet, self.report
        with phase(report.phases, "calm"):
            await asyncio.sleep(plan.calm_s)
        for number in plan.kills:
            with phase(report.phases, f"kill of {number + 1}"):
                report.kills.append(await scenarios.kill(fleet, number, plan.alone_s))
        with phase(report.phases, scenarios.REDIS_AWAY):
            report.problems += await scenarios.redis_outage(fleet, plan.outage_s)
        with phase(report.phases, "Redis back, empty"):
            await asyncio.sleep(plan.calm_s)
        if fleet.store.objects is not None:
            with phase(report.phases, scenarios.BUCKET_AWAY):
                report.problems += await scenarios.bucket_outage(fleet, plan.outage_s)
            with phase(report.phases, "bucket back"):
                await asyncio.sleep(plan.calm_s)
        with phase(report.phases, "rolling restart"):
            report.restart_codes = await scenarios.rolling_restart(
                fleet, plan.restarts, scenarios.OVERLONG
            )

    async def _judge(self) -> None:
        report = self.report
        self._attribute()
        report.outcomes = self.load.outcomes
        report.problems += [*self.changes.problems, *self.greedy.problems]
        report.arrivals = self.changes.arrivals
        report.counts = dict(self.changes.counts)
        report.acknowledged = self.ledger.num_acknowledged
        report.quota = (self.greedy.most_in_a_window, self.greedy.limit)
        report.missing = await self.ledger.missing(self.fleet.clients, RECONCILED_SECONDS)

    def _attribute(self) -> None:
        """What nobody has answered was with a replica that was killed in between: no other has
        come to its end."""
        served_by = self.fleet.served_by()
        for one in self.load.outcomes:
            one.replica = one.replica or served_by.get(one.request_id, "")
            if not one.replica and not self.fleet.is_finished(one.request_id):
                meanwhile = (k for k in self.report.kills if one.started <= k.at <= one.ended)
                one.replica = next((kill.replica for kill in meanwhile), "")

    async def _compare_routing(self) -> None:
        plan, report = self.plan, self.report
        with phase(report.phases, "routing compared"):
            loads = await compare(self.fleet, self.changes, plan.num_clients, plan.routing_s)
        for name, (outcomes, rate) in loads.items():
            report.outcomes += outcomes
            report.hit_rates[name] = rate


async def _learned(client: httpx.AsyncClient) -> dict[str, Question]:
    """By task, one after the other: each has the replica for itself."""
    return {task: await learned(client, task) for task in TASKS}
