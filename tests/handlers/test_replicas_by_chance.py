"""Two replicas, random changes, deaths and interruptions, against what clients may see:

- What was acknowledged is in the store for ever; what was not is there as a whole or not at all.
- What a replica shows of a name is what the store's log came to after some number of records, never
  fewer than before, and not without what the replica itself has acknowledged.
- Versions of a name are numbered without gaps.
- Once everybody has heard of everything, all show the same, which is all that the store has.
"""

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.adapters.backends.folder_store import folder_backends
from service.adapters.history import NameHistory
from service.adapters.journal import Journal
from service.adapters.moves import WantedMove
from service.adapters.operations import Publish, operation_from_json
from service.errors import (
    AdapterNotFound,
    KeyNotFound,
    ModelNotFound,
    NameConflict,
    PreconditionFailed,
    StoreUnavailable,
    TenantNotFound,
    Unauthorized,
    UnknownTarget,
)
from service.handlers.keys import WantedKey
from service.tenancy import ANYONE, Role, TenantLimits
from tests.adapters.backends.memory_fleet import Exchange
from tests.handlers.replicas import Killed, Replica, settle

POLL_S = 0.05
"""What an announcement has not told is found when the loop runs for that long."""
REFUSALS = (
    AdapterNotFound,
    KeyNotFound,
    NameConflict,
    PreconditionFailed,
    TenantNotFound,
    UnknownTarget,
)

names = st.sampled_from(["a", "b"])
tenants = st.sampled_from(["team-a", "team-b"])
sides = st.sampled_from([0, 1])
deaths = st.sampled_from([None, None, None, None, "before", "after"])


class Replicas(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.work = Path(tempfile.mkdtemp())
        self.root = self.work / "store"
        self.loop = asyncio.new_event_loop()
        self.exchange = Exchange()
        self.truth = folder_backends(self.root, "observer").logs
        self.acknowledged: dict[str, int] = defaultdict(int)
        """The highest revision of each name that anybody was told of."""
        self.shown: tuple[dict[str, int], dict[str, int]] = ({}, {})
        """What each replica has shown already."""
        self.records: dict[str, list[object]] = defaultdict(list)
        """Every record that was seen in the store."""
        self.secrets: dict[str, str] = {}
        """Of keys whose making was acknowledged, by id."""
        self.revoked: set[str] = set()
        self.deleted: set[str] = set()
        self.replicas = [self.make(side) for side in (0, 1)]

    def make(self, side: int) -> Replica:
        replica = Replica(self.root, "xy"[side], self.exchange, POLL_S)
        self.run(replica.start())
        return replica

    def run(self, work: Awaitable[object]) -> object:
        return self.loop.run_until_complete(work)

    def attempt(self, side: int, death: str | None, work: Callable[[Replica], Awaitable]) -> object:
        """What was acknowledged; None where nothing was."""
        replica = self.replicas[side]
        replica.mortal.dies = death
        try:
            return self.run(work(replica))
        except REFUSALS:
            return None
        except StoreUnavailable:
            assert not self.exchange.is_up, "refused without a reason"
            return None
        except Killed:
            self.restart(side)
            return None
        finally:
            replica.mortal.dies = None

    def restart(self, side: int) -> None:
        self.run(self.replicas[side].kill())
        self.replicas[side] = self.make(side)

    def change(self, side: int, name: str, death: str | None, work: Callable) -> None:
        if self.attempt(side, death, work) is not None:
            self.note_acknowledged(side, name)

    def note_acknowledged(self, side: int, name: str) -> None:
        revision = self.replicas[side].revision(name)
        self.acknowledged[name] = max(self.acknowledged[name], revision)
        self.shown[side][name] = max(self.shown[side].get(name, 0), revision)

    @rule(side=sides, name=names, number=st.integers(0, 3), death=deaths)
    def publish(self, side: int, name: str, number: int, death: str | None) -> None:
        self.change(side, name, death, lambda replica: replica.publish(name, number))

    @rule(name=names, numbers=st.tuples(st.integers(0, 3), st.integers(0, 3)))
    @precondition(lambda self: self.exchange.is_up)
    def publish_on_both(self, name: str, numbers: tuple[int, int]) -> None:
        work = [r.publish(name, n) for r, n in zip(self.replicas, numbers, strict=True)]
        ends = self.run(_together(work))
        assert not [end for end in ends if isinstance(end, BaseException)]
        for side in (0, 1):
            self.note_acknowledged(side, name)

    @rule(side=sides, name=names, number=st.integers(1, 3), is_bound=st.booleans(), death=deaths)
    def move(self, side: int, name: str, number: int, is_bound: bool, death: str | None) -> None:
        expected = {self.replicas[side].revision(name)} if is_bound else None
        wanted = WantedMove(aliases={"x": ((number, 1),)})
        self.change(
            side, name, death, lambda one: one.adapters.aliases.move(name, wanted, expected)
        )

    @rule(name=names, revision=st.integers(1, 6))
    @precondition(lambda self: self.exchange.is_up)
    def move_on_both(self, name: str, revision: int) -> None:
        length = len(self.truth.read(f"journal/{name}"))
        moves = [
            replica.adapters.aliases.move(
                name, WantedMove(aliases={"x": ((1, length + 2 + side),)}), {revision}
            )
            for side, replica in enumerate(self.replicas)
        ]
        ends = self.run(_together(moves))
        winners = [side for side in (0, 1) if not isinstance(ends[side], BaseException)]
        assert all(isinstance(ends[side], REFUSALS) for side in {0, 1} - set(winners))
        assert len(winners) <= 1, "both were decided on one state"
        assert len(self.truth.read(f"journal/{name}")) == length + len(winners)
        for side in winners:
            self.note_acknowledged(side, name)

    @rule(side=sides, name=names, death=deaths)
    def delete(self, side: int, name: str, death: str | None) -> None:
        self.change(side, name, death, lambda replica: replica.adapters.deletions.delete(name))

    @rule(side=sides, name=names, death=deaths)
    def restore(self, side: int, name: str, death: str | None) -> None:
        self.change(side, name, death, lambda replica: replica.adapters.deletions.restore(name))

    @rule(side=sides, tenant=tenants, death=deaths)
    def create_tenant(self, side: int, tenant: str, death: str | None) -> None:
        made = self.attempt(side, death, lambda one: one.access.tenants.create(tenant))
        assert made is None or tenant not in self.deleted, "its name was given out twice"

    @rule(side=sides, tenant=tenants, number=st.integers(1, 9), death=deaths)
    def set_limits(self, side: int, tenant: str, number: int, death: str | None) -> None:
        limits = TenantLimits(max_adapters=number)
        self.attempt(side, death, lambda one: one.access.tenants.set_limits(tenant, limits))

    @rule(side=sides, tenant=tenants, death=deaths)
    def delete_tenant(self, side: int, tenant: str, death: str | None) -> None:
        async def work(replica: Replica) -> bool:
            await replica.access.tenants.delete(tenant)
            return True

        if self.attempt(side, death, work):
            self.deleted.add(tenant)

    @rule(side=sides, tenant=tenants, death=deaths)
    def create_key(self, side: int, tenant: str, death: str | None) -> None:
        wanted = WantedKey(Role.USE, tenant)
        made = self.attempt(side, death, lambda one: one.access.keys.create(ANYONE, wanted))
        if made is not None:
            key, secret = made
            self.secrets[key.id] = secret.text

    @rule(side=sides, data=st.data(), death=deaths)
    @precondition(lambda self: self.secrets)
    def revoke_key(self, side: int, data: st.DataObject, death: str | None) -> None:
        key_id = data.draw(st.sampled_from(sorted(self.secrets)))
        if self.attempt(side, death, lambda one: one.access.keys.revoke(ANYONE, key_id)):
            self.revoked.add(key_id)
            assert not self.opens(self.replicas[side], key_id)

    @rule()
    def cut(self) -> None:
        self.exchange.cut()

    @rule(is_empty=st.booleans())
    def heal(self, is_empty: bool) -> None:
        self.exchange.heal(is_empty=is_empty)

    @rule(side=sides, is_deaf=st.booleans())
    def lose(self, side: int, is_deaf: bool) -> None:
        self.replicas[side].announcements.is_deaf = is_deaf

    @rule(side=sides)
    def kill(self, side: int) -> None:
        self.restart(side)

    @rule(seconds=st.sampled_from([0.0, 0.005]))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(side=sides)
    def collect(self, side: int) -> None:
        self.attempt(side, None, lambda replica: replica.adapters.deletions.collect())

    @rule()
    def all_hear_of_everything(self) -> None:
        """Even while they cannot speak to each other, and though announcements are lost."""
        self.run(settle(self.replicas))
        views = [self.shown_state(replica) for replica in self.replicas]
        assert views[0] == views[1]
        for key_id in self.secrets:
            tenant_is_there = {
                replica.access.book.get(replica.access.ring.get(key_id).tenant) is not None
                for replica in self.replicas
            }
            opens = {self.opens(replica, key_id) for replica in self.replicas}
            assert opens == {key_id not in self.revoked and tenant_is_there == {True}}
        for tenant in self.deleted:
            assert {replica.access.book.get(tenant) for replica in self.replicas} == {None}

    @invariant()
    def what_is_seen_is_allowed(self) -> None:
        self.check_the_store_forgets_nothing()
        for side, replica in enumerate(self.replicas):
            for name in ("a", "b"):
                self.check_shown(side, replica, name)

    def check_the_store_forgets_nothing(self) -> None:
        for name in self.truth.names("journal"):
            records = self.truth.read(f"journal/{name}")
            known = self.records[name]
            assert records[: len(known)] == known, "what was written has changed"
            self.records[name] = records
            numbers = [
                one.number
                for record in records
                if isinstance(one := operation_from_json(dict(record)), Publish)
            ]
            assert numbers == list(range(1, len(numbers) + 1))
        for name, revision in self.acknowledged.items():
            assert len(self.records[name]) >= revision, "an acknowledged change is lost"

    def check_shown(self, side: int, replica: Replica, name: str) -> None:
        """Some past of the store, and never one before that which was shown already."""
        revision = replica.revision(name)
        assert revision >= self.shown[side].get(name, 0), "it has forgotten"
        self.shown[side][name] = revision
        expected = self.past(name, revision)
        assert _resolved(replica, name) == expected.current
        shares = expected.aliases.get("x")
        assert _resolved(replica, f"{name}@x") == (shares[0][0] if shares else None)
        ref = replica.house.registry.current(name)
        if ref is not None:
            assert ref.digest == expected.versions[ref.version].digest
            assert replica.house.store.has_object(ref.digest)

    def past(self, name: str, revision: int) -> NameHistory:
        history = NameHistory()
        for record in self.records[name][:revision]:
            history.apply(operation_from_json(dict(record)))
        return history

    def shown_state(self, replica: Replica) -> object:
        histories = {name: replica.house.store.history(name) for name in ("a", "b")}
        assert histories == {name: Journal(self.truth).replay(name) for name in histories}
        limits = {name: replica.access.book.limits_of(name) for name in ("team-a", "team-b")}
        return replica.access.book.names(), limits, replica.access.book.lengths

    def opens(self, replica: Replica, key_id: str) -> bool:
        try:
            return replica.access.gate.admit(self.secrets[key_id].encode(), 1.0).key_id == key_id
        except Unauthorized:
            return False

    def teardown(self) -> None:
        try:
            self.all_hear_of_everything()
        finally:
            for replica in self.replicas:
                self.run(replica.close())
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.work)


async def _together(work: list[Awaitable]) -> list[object]:
    return await asyncio.gather(*work, return_exceptions=True)


def _resolved(replica: Replica, model: str) -> int | None:
    try:
        return replica.house.registry.resolve(model).version
    except ModelNotFound:
        return None


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(
    max_examples=int(os.environ.get("REPLICA_CASES", "20")),
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
