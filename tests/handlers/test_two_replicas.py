"""Two replicas over one store: what one has acknowledged the other uses, and neither overwrites
what the other has decided."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.adapters.lifetime import Lifetime
from service.adapters.moves import WantedMove
from service.adapters.naming import Selector
from service.errors import (
    AdapterNotFound,
    ModelNotFound,
    NameConflict,
    PreconditionFailed,
    QuotaExceeded,
    StoreUnavailable,
    TenantNotFound,
    Unauthorized,
)
from service.handlers.keys import WantedKey
from service.tenancy import ANYONE, PUBLIC, Role, TenantLimits
from tests.adapters.backends.memory_fleet import Exchange
from tests.handlers.replicas import Replica, settle

NEVER_S = 1000.0
NOW = 1.0
Scenario = Callable[[Replica, Replica], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Two replicas that hear of changes by announcements alone."""

    async def main(scenario: Scenario) -> None:
        exchange = Exchange()
        pair = [Replica(tmp_path / "store", name, exchange, NEVER_S) for name in "xy"]
        for one in pair:
            await one.start()
        try:
            await scenario(*pair)
        finally:
            for one in pair:
                await one.close()

    return lambda scenario: asyncio.run(main(scenario))


def resolved(replica: Replica, model: str) -> int | None:
    try:
        return replica.house.registry.resolve(model).version
    except ModelNotFound:
        return None


def test_a_publish_a_move_a_delete_and_a_restore_hold_on_the_other(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.publish("n", 2)
        await other.knows("n", 2)
        assert resolved(other, "n") == 2
        await other.adapters.aliases.move("n", WantedMove(aliases={"stable": ((1, 1),)}))
        await one.knows("n", 3)
        assert resolved(one, "n@stable") == 1
        await one.adapters.aliases.move("n", WantedMove(visibility=PUBLIC, pinned=True))
        await other.knows("n", 4)
        assert other.house.registry.visibility("n") == PUBLIC
        assert {ref.version for ref in other.house.pinned} == {1, 2}
        await one.adapters.deletions.delete("n")
        await other.knows("n", 5)
        assert (resolved(other, "n"), other.house.pinned) == (None, [])
        assert sorted(other.house.unloaded) == sorted(one.house.unloaded)
        assert len(other.house.unloaded) == 2
        await other.adapters.deletions.restore("n")
        await one.knows("n", 6)
        assert (resolved(one, "n"), resolved(one, "n@stable")) == (2, 1)
        await one.adapters.aliases.move("n", WantedMove(aliases={"stable": ()}))
        await one.adapters.deletions.delete_version(Selector("n", number=1))
        await other.knows("n", 8)
        assert resolved(other, "n@1") is None

    play(scenario)


def test_content_that_another_name_has_stays_in_memory(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.publish("m", 1)
        await one.adapters.deletions.delete("n")
        await other.knows("n", 2)
        assert other.house.unloaded == []

    play(scenario)


def test_what_was_deleted_elsewhere_leaves_memory_also_when_a_change_here_sees_it_first(
    play,
) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.publish("n", 2)
        await other.knows("n", 2)
        deleted = other.house.registry.resolve("n@1").digest
        other.announcements.is_deaf = True
        await one.adapters.deletions.delete_version(Selector("n", number=1))
        await other.publish("n", 3)
        assert resolved(other, "n@1") is None
        assert one.house.unloaded == other.house.unloaded == [deleted]

    play(scenario)


def test_an_end_that_was_set_elsewhere_comes_here_too(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.adapters.aliases.move("n", WantedMove(lifetime=Lifetime(ttl_s=3600)))
        await other.knows("n", 2)
        other.house.skipped_s = one.house.skipped_s = 3601.0
        assert resolved(other, "n") is None
        deleted = await asyncio.gather(
            *(each.adapters.expiry.sweep(each.house._now()) for each in (one, other))
        )
        assert ["n"] in deleted
        await settle([one, other])
        assert one.house.store.history("n").num_operations == 3, "it was deleted once"

    play(scenario)


def test_concurrent_publishes_make_consecutive_versions_and_none_is_lost(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        work = [
            replica.publish("n", 2 * i + j)
            for i in range(8)
            for j, replica in enumerate((one, other))
        ]
        numbers = await asyncio.gather(*work)
        assert sorted(numbers) == list(range(1, 17))
        await settle([one, other])
        for replica in (one, other):
            versions = replica.house.store.history("n").versions
            assert sorted(versions) == list(range(1, 17))
            assert len({version.digest for version in versions.values()}) == 16

    play(scenario)


def test_of_moves_that_were_decided_on_one_state_one_wins(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        for number in (1, 2):
            await one.publish("n", number)
        await other.knows("n", 2)
        for seen in (2, 3, 4):
            moves = [
                replica.adapters.aliases.move("n", WantedMove(aliases={"a": ((v, seen),)}), {seen})
                for v, replica in ((1, one), (2, other))
            ]
            ends = await asyncio.gather(*moves, return_exceptions=True)
            assert sorted(type(end).__name__ for end in ends) == [
                "AdapterView",
                "PreconditionFailed",
            ]
            await settle([one, other])
            views = [replica.adapters.get("n") for replica in (one, other)]
            assert views[0].aliases == views[1].aliases
            assert [view.revision for view in views] == [seen + 1] * 2

    play(scenario)


def test_who_lost_a_race_still_sees_what_the_winner_did(play) -> None:
    """The loser reads the winner's record to find out that it lost; requests must see it, too."""

    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.publish("n", 2)
        await other.knows("n", 2)
        other.announcements.is_deaf = True
        await one.adapters.aliases.move("n", WantedMove(current=1))
        with pytest.raises(PreconditionFailed):
            await other.adapters.aliases.move("n", WantedMove(current=2), {2})
        other.announcements.is_deaf = False
        one.exchange.heal()
        await other.knows("n", 3)
        assert resolved(other, "n") == 1

    play(scenario)


def test_the_audit_tells_who_did_what(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await other.knows("n", 1)
        other.announcements.is_deaf = True
        await one.publish("n", 2)
        await other.adapters.aliases.move("n", WantedMove(aliases={"x": ((1, 1),)}))
        (day,) = one.logs.names("audit")
        entries = one.logs.read(f"audit/{day}")
        assert [entry["after"].keys() for entry in entries] == [
            {"current", "versions.1"},
            {"current", "versions.2"},
            {"aliases.x"},
        ]

    play(scenario)


def test_tenants_and_keys_hold_on_the_other(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.access.tenants.create("team-a", TenantLimits(max_adapters=1))
        await settle([one, other])
        assert other.access.limits_of("team-a") == TenantLimits(max_adapters=1)
        key, secret = await other.access.keys.create(ANYONE, WantedKey(Role.USE, "team-a"))
        await settle([one, other])
        admitted = one.access.gate.admit(secret.text.encode(), NOW)
        assert (admitted.tenant, admitted.key_id) == ("team-a", key.id)
        await one.access.tenants.set_limits("team-a", None)
        await one.access.keys.revoke(ANYONE, key.id)
        await settle([one, other])
        assert other.access.book.limits_of("team-a") is None
        with pytest.raises(Unauthorized):
            other.access.gate.admit(secret.text.encode(), NOW)
        await other.access.tenants.delete("team-a")
        await settle([one, other])
        with pytest.raises(TenantNotFound):
            one.access.tenants.get("team-a")
        with pytest.raises(NameConflict, match="never given out again"):
            await one.access.tenants.create("team-a")

    play(scenario)


def test_a_tenant_that_another_has_deleted_does_not_come_back(play) -> None:
    """By a change that was decided on what is no longer so."""

    async def scenario(one: Replica, other: Replica) -> None:
        await one.access.tenants.create("team-a")
        await settle([one, other])
        other.announcements.is_deaf = True
        await one.access.tenants.delete("team-a")
        with pytest.raises(TenantNotFound):
            await other.access.tenants.set_limits("team-a", TenantLimits(max_adapters=1))
        _, secret = await other.access.keys.create(ANYONE, WantedKey(Role.USE, "team-a"))
        await settle_by_interruption(one, other)
        for replica in (one, other):
            with pytest.raises(Unauthorized):
                replica.access.gate.admit(secret.text.encode(), NOW)

    play(scenario)


async def settle_by_interruption(one: Replica, other: Replica) -> None:
    other.announcements.is_deaf = False
    one.exchange.heal()
    await settle([one, other])


def test_an_end_that_both_know_of_holds_while_nobody_hears(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.adapters.aliases.move("n", WantedMove(lifetime=Lifetime(ttl_s=3600)))
        await other.knows("n", 2)
        one.exchange.cut()
        for replica in (one, other):
            replica.house.skipped_s = 3601.0
            assert resolved(replica, "n") is None
        assert one.house.store.history("n").num_operations == 2, "it is deleted later"

    play(scenario)


def test_the_number_of_adapters_is_bounded_by_what_a_replica_knows(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        for replica in (one, other):
            replica.house.tenant_limits = TenantLimits(max_adapters=1)
        other.announcements.is_deaf = True
        await one.publish("n", 1)
        await other.publish("m", 2)
        await settle_by_interruption(one, other)
        for replica in (one, other):
            with pytest.raises(QuotaExceeded):
                await replica.publish("k", 3)

    play(scenario)


def test_while_nobody_hears_nothing_changes_and_what_is_known_is_used(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        key, secret = await one.access.keys.create(ANYONE, WantedKey(Role.USE))
        await settle([one, other])
        one.exchange.cut()
        for replica in (one, other):
            adapters, access = replica.adapters, replica.access
            for change in (
                lambda r=replica: r.publish("n", 2),
                lambda a=adapters: a.intake.open(10),
                lambda a=adapters: a.aliases.move("n", WantedMove(current=1)),
                lambda a=adapters: a.aliases.rollback("n"),
                lambda a=adapters: a.deletions.delete("n"),
                lambda a=adapters: a.deletions.restore("n"),
                lambda a=adapters: a.deletions.collect(),
                lambda k=access.keys: k.create(ANYONE, WantedKey(Role.USE)),
                lambda k=access.keys: k.revoke(ANYONE, key.id),
                lambda t=access.tenants: t.create("team-b"),
                lambda t=access.tenants: t.set_limits("default", TenantLimits()),
                lambda t=access.tenants: t.delete("team-b"),
            ):
                with pytest.raises(StoreUnavailable) as refused:
                    await change()
                assert refused.value.retry_after > 0
            assert (await adapters.deletions.collect(is_dry_run=True)).is_nothing
            assert resolved(replica, "n") == 1
            assert access.gate.admit(secret.text.encode(), NOW).key_id == key.id
        one.exchange.heal(is_empty=True)
        assert await other.publish("n", 2) == 2
        await one.knows("n", 2)

    play(scenario)


def test_what_was_written_but_not_told_is_told_when_that_is_possible_again(play) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await settle([one, other])
        append, exchange = one.mortal._logs.append, one.exchange

        def append_and_cut(*arguments) -> None:
            append(*arguments)
            exchange.cut()

        one.mortal._logs.append = append_and_cut
        assert await one.publish("n", 1) == 1, "the store has it, so it is acknowledged"
        one.mortal._logs.append = append
        assert one.logs.num_untold == 1
        assert resolved(other, "n") is None
        exchange.heal()
        await other.knows("n", 1)

    play(scenario)


def test_a_damaged_log_keeps_nothing_else_from_a_replica(play, tmp_path: Path) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("bad", 1)
        await settle([one, other])
        other.announcements.is_deaf = True
        await one.publish("bad", 2)
        await one.publish("good", 3)
        record = tmp_path / "store/.repertoire/journal/bad/0000000001.json"
        record.write_text("{")
        other.announcements.is_deaf = False
        one.exchange.heal()
        await other.knows("good", 1)
        assert resolved(other, "bad") == 1, "what it knew"
        assert other.follower.stats.num_failures >= 1

    play(scenario)


def test_a_start_and_a_restart_know_what_the_store_has(play, tmp_path: Path) -> None:
    async def scenario(one: Replica, other: Replica) -> None:
        await one.publish("n", 1)
        await one.publish("gone", 2)
        await one.adapters.deletions.delete("gone")
        await settle([one, other])
        third = Replica(tmp_path / "store", "z", one.exchange, NEVER_S)
        await third.start()
        assert resolved(third, "n") == 1
        assert third.revision("gone") == 2
        with pytest.raises(AdapterNotFound):
            third.adapters.get("gone")
        await third.kill()
        again = Replica(tmp_path / "store", "z", one.exchange, NEVER_S)
        await again.start()
        await again.publish("n", 3)
        await other.knows("n", 2)
        await again.close()

    play(scenario)
