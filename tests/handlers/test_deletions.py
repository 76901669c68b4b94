"""Deleting, restoring and collecting, from the store to the registry, and what never goes."""

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.compiling import CompileOutcome
from service.adapters.files import VERSION_FILES
from service.adapters.limits import AdapterLimits
from service.adapters.moves import WantedMove
from service.adapters.naming import Selector
from service.adapters.verdict import Verdict
from service.core import AdapterRef
from service.errors import (
    AdapterNotFound,
    ModelNotFound,
    NameConflict,
    PreconditionFailed,
    StoreFull,
    VersionInUse,
)
from tests.adapters.house import House
from tests.adapters.tiny_base import TinyBase
from tests.handlers.test_adapters_publish import ANYONE, Lora, run

GRACE = 1000.0
FIRST = Selector("a", number=1)


@pytest.fixture
def house(tmp_path: Path, base: TinyBase) -> House:
    return House(tmp_path / "store", base.description, deleted_retention_s=GRACE)


def again(house: House) -> House:
    return House(house.root, house.base, deleted_retention_s=GRACE)


def with_two_versions(house: House, lora: Lora, scenario: Callable) -> None:
    async def main() -> None:
        for seed in (1, 2):
            await house.publish("a", lora(seed))
        await scenario()

    run(house, main)


def content_of(house: House, ref: AdapterRef) -> bool:
    return house.store.has_object(ref.digest)


def test_one_version_goes_at_once_and_comes_back(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        ref = house.registry.resolve("a@1")
        number, revision = await house.service.deletions.delete_version(FIRST)
        assert (number, revision) == (1, house.service.get("a").revision)
        for model in ("a@1", f"a@sha256:{ref.digest[:8]}"):
            with pytest.raises(ModelNotFound):
                house.registry.resolve(model)
        assert house.registry.resolve("a").version == 2
        assert (house.unloaded, content_of(house, ref)) == ([ref.digest], True)
        with pytest.raises(AdapterNotFound, match="a@1"):
            await house.service.deletions.delete_version(FIRST)

    async def restore() -> None:
        shown = second.service.get("a")
        assert [one.number for one in shown.versions] == [2]
        (deleted,) = shown.deleted
        assert deleted.number == 1
        assert deleted.recoverable_until - deleted.deleted_at == GRACE
        view = await second.service.deletions.restore("a", 1)
        assert ([one.number for one in view.versions], view.deleted) == ([1, 2], ())
        second.cache.open(second.registry.resolve("a@1")).close()
        assert second.cache.stats().misses == 0, "its compiled form was kept"

    with_two_versions(house, lora, scenario)
    second = again(house)
    run(second, restore)


def test_a_name_comes_back_as_it_was_after_a_restart(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.service.aliases.move("a", WantedMove(1, {"canary": ((1, 95), (2, 5))}))
        await house.service.delete("a")
        with pytest.raises(AdapterNotFound):
            house.service.get("a")
        assert house.service.visible.list(ANYONE, None, 10, None)[0] == []

    async def restore() -> None:
        (view,), has_more = second.service.visible.list_deleted(ANYONE, None, 10, None)
        assert (view.name, view.state, has_more) == ("a", "deleted", False)
        assert [one.number for one in view.deleted] == [1, 2]
        assert second.service.visible.list_deleted(ANYONE, None, 10, "a") == ([], False)
        with pytest.raises(PreconditionFailed):
            await second.service.deletions.restore("a", expected={view.revision - 1})
        shown = await second.service.deletions.restore("a", expected={view.revision})
        assert shown.current.number == 1
        assert shown.aliases == {"canary": ((1, 95), (2, 5))}
        assert second.registry.resolve("a@canary").version == 1
        assert second.service.visible.list_deleted(ANYONE, None, 10, None) == ([], False)

    with_two_versions(house, lora, scenario)
    second = again(house)
    run(second, restore)


def test_a_refused_change_changes_nothing(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.service.aliases.move("a", WantedMove(aliases={"stable": ((1, 1),)}))
        before = house.service.get("a")
        deletions = house.service.deletions
        with pytest.raises(VersionInUse):
            await deletions.delete_version(FIRST)
        with pytest.raises(PreconditionFailed):
            await deletions.delete("a", expected={0})
        with pytest.raises(PreconditionFailed):
            await deletions.delete_version(Selector("a", number=2), expected={0})
        with pytest.raises(NameConflict):
            await deletions.restore("a")
        assert house.service.get("a") == before
        assert house.registry.resolve("a@stable").version == 1

    with_two_versions(house, lora, scenario)


def test_what_is_past_its_grace_is_gone_and_freed(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        refs = [house.registry.resolve(f"a@{number}") for number in (1, 2)]
        await house.publish("b", lora(2))
        await house.service.delete("a")
        deletions = house.service.deletions
        assert (await deletions.collect()).is_nothing
        house.skipped_s = GRACE
        for number in (None, 1):
            with pytest.raises(AdapterNotFound):
                await deletions.restore("a", number)
        assert house.service.visible.list_deleted(ANYONE, None, 10, None) == ([], False)
        planned = await deletions.collect(is_dry_run=True)
        assert content_of(house, refs[0])
        freed = await deletions.collect()
        assert freed == planned
        assert [(one.name, one.number) for one in freed.versions] == [("a", 1), ("a", 2)]
        assert (freed.num_objects, freed.num_forms) == (1, 1), "the other is what b has"
        assert freed.object_bytes == sum((lora(1) / name).stat().st_size for name in VERSION_FILES)
        assert [content_of(house, ref) for ref in refs] == [False, True]
        assert [house.cache.has(ref.digest) for ref in refs] == [False, True]
        assert (await deletions.collect()).is_nothing
        assert (await house.publish("a", lora(1))).version.number == 3

    with_two_versions(house, lora, scenario)


def test_content_in_use_stays_beyond_its_grace(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        ref = house.registry.acquire("a@1")
        await house.service.delete("a")
        house.skipped_s = GRACE
        freed = await house.service.deletions.collect()
        assert [one.number for one in freed.versions] == [2]
        assert content_of(house, ref)
        house.cache.drop(ref.digest)
        house.cache.open(ref).close()
        house.registry.release(ref)
        freed = await house.service.deletions.collect()
        assert [one.number for one in freed.versions] == [1]
        assert not content_of(house, ref)

    with_two_versions(house, lora, scenario)


class Remembering:
    """Compiles every content once, so that many publishes take little time."""

    def __init__(self, compiler, kept: Path) -> None:
        self._compiler = compiler
        self._kept = kept
        self._outcomes: dict[bytes, CompileOutcome] = {}

    def compile(self, source: Path, work: Path, *arguments, **options) -> CompileOutcome:
        key = (source / "adapter_model.safetensors").read_bytes()
        if key not in self._outcomes:
            made = self._compiler.compile(source, work, *arguments, **options)
            kept = shutil.copyfile(made.compiled, self._kept / made.manifest.digest)
            self._outcomes[key] = replace(made, compiled=kept)
        return replace(self._outcomes[key], folder=source)


class CollectingVerifier:
    """An upload is checked for long enough that every grace ends and everything is collected."""

    house: House

    async def verify(self, ref: AdapterRef, folder: Path, work: Path) -> Verdict:
        self.house.skipped_s += GRACE
        await self.house.service.deletions.collect()
        self.house.cache.open(ref).close()
        return Verdict(True, 0.0, 0.0, 1e-4, "float32", 1, 0)


def test_a_collection_takes_nothing_from_an_upload(
    tmp_path: Path, base: TinyBase, lora: Lora
) -> None:
    verifier = CollectingVerifier()
    house = House(
        tmp_path / "store", base.description, verifier=verifier, deleted_retention_s=GRACE
    )
    verifier.house = house

    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        house.skipped_s += GRACE
        result = await house.publish("b", lora(1))
        ref = house.registry.resolve("b")
        assert (result.version.number, content_of(house, ref)) == (1, True)
        await house.service.deletions.collect()
        house.cache.drop(ref.digest)
        house.cache.open(ref).close()

    run(house, scenario)


class LateVerifier(CollectingVerifier):
    """Looks at an upload when the collection that was running is over."""

    async def verify(self, ref: AdapterRef, folder: Path, work: Path) -> Verdict:
        await asyncio.sleep(0.4)
        self.house.cache.open(ref).close()
        return Verdict(True, 0.0, 0.0, 1e-4, "float32", 1, 0)


def test_an_upload_waits_for_a_collection_that_has_begun(
    tmp_path: Path, base: TinyBase, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = LateVerifier()
    house = House(
        tmp_path / "store", base.description, verifier=verifier, deleted_retention_s=GRACE
    )
    house = replace(house, compiler=Remembering(house.compiler, tmp_path))
    verifier.house = house

    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        house.skipped_s = GRACE
        drop = house.cache.drop
        monkeypatch.setattr(house.cache, "drop", lambda digest: (time.sleep(0.2), drop(digest)))
        collection = asyncio.create_task(house.service.deletions.collect())
        await asyncio.sleep(0.05)
        await house.publish("b", lora(1))
        assert (await collection).num_objects == 1

    run(house, scenario)


def test_a_full_store_gives_up_what_is_over_and_nothing_else(
    tmp_path: Path, base: TinyBase, lora: Lora
) -> None:
    size = sum((lora(1) / name).stat().st_size for name in VERSION_FILES)
    limits = AdapterLimits(store_budget_bytes=size + 9)
    house = House(tmp_path / "store", base.description, limits, deleted_retention_s=GRACE)

    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        with pytest.raises(StoreFull):
            await house.publish("b", lora(2))
        with pytest.raises(StoreFull):
            await house.service.intake.open(size)
        await house.service.deletions.restore("a")
        await house.service.delete("a")
        house.skipped_s = GRACE
        await house.service.intake.discard(await house.service.intake.open(size))
        await house.publish("b", lora(2))
        await house.service.delete("b")
        house.skipped_s *= 3
        await house.publish("c", lora(1))
        assert len(house.store.stored_objects()) == 1

    run(house, scenario)


def test_restores_respect_the_number_of_adapters(
    tmp_path: Path, base: TinyBase, lora: Lora
) -> None:
    limits = AdapterLimits(max_adapters=1)
    house = House(tmp_path / "store", base.description, limits, deleted_retention_s=GRACE)

    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        await house.publish("b", lora(1))
        with pytest.raises(StoreFull, match="1 adapters"):
            await house.service.deletions.restore("a")

    run(house, scenario)


def test_damaged_content_is_said_so(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        digest = house.registry.resolve("a@1").digest
        await house.service.delete("a")
        (house.store.object_folder(digest) / "record.json").write_text("{")

    async def check() -> None:
        deletions = second.service.deletions
        assert second.service.visible.list_deleted(ANYONE, None, 10, None) == ([], False), (
            "not all of it can come back"
        )
        for number in (None, 1):
            with pytest.raises(NameConflict, match="a@1 is damaged"):
                await deletions.restore("a", number)
        assert (await deletions.restore("a", 2)).current.number == 2

    with_two_versions(house, lora, scenario)
    second = again(house)
    run(second, check)


def test_without_a_grace_content_goes_when_the_last_request_has(
    tmp_path: Path, base: TinyBase, lora: Lora
) -> None:
    house = House(tmp_path / "store", base.description)

    async def scenario() -> None:
        ref = house.registry.acquire("a@1")
        await house.service.deletions.delete_version(FIRST)
        assert house.service.get("a").deleted == ()
        await asyncio.sleep(0.02)
        assert content_of(house, ref)
        house.registry.release(ref)
        await house.service._changes.settled()
        assert not content_of(house, ref)
        with pytest.raises(AdapterNotFound):
            await house.service.deletions.restore("a", 1)

    with_two_versions(house, lora, scenario)


def test_collections_under_load_touch_nothing_that_is_used(
    house: House, lora: Lora, tmp_path: Path
) -> None:
    """Names come, go and come back while everything is collected all the time."""
    house.compiler = Remembering(house.compiler, tmp_path)
    house = House(house.root, house.base, compiler=house.compiler, deleted_retention_s=GRACE)
    num_served = 0
    is_over = False

    async def ask(number: int) -> None:
        nonlocal num_served
        draw = random.Random(number)
        while not is_over:
            await asyncio.sleep(0.001)
            try:
                ref = house.registry.acquire(draw.choice(["a", "b", "a@1", "b@2"]))
            except ModelNotFound:
                continue
            await asyncio.sleep(draw.uniform(0, 0.02))
            assert content_of(house, ref)
            assert house.cache.has(ref.digest)
            house.registry.release(ref)
            num_served += 1

    async def change(name: str, seeds: tuple[int, ...]) -> None:
        draw = random.Random(name)
        for _ in range(12):
            for seed in seeds:
                await house.publish(name, lora(seed))
            await house.service.delete(name)
            await asyncio.sleep(draw.uniform(0, 0.01))
            try:
                await house.service.deletions.restore(name)
            except AdapterNotFound:
                continue
            await house.service.delete(name)
            await asyncio.sleep(draw.uniform(0, 0.06))

    async def collect() -> None:
        while not is_over:
            house.skipped_s += GRACE / 3
            freed.append(await house.service.deletions.collect())
            await asyncio.sleep(0.005)

    freed = []

    async def scenario() -> None:
        nonlocal is_over
        others = [asyncio.create_task(ask(number)) for number in range(8)]
        others.append(asyncio.create_task(collect()))
        await asyncio.gather(change("a", (1, 2)), change("b", (3, 4)))
        is_over = True
        await asyncio.gather(*others)
        house.skipped_s += GRACE
        await house.service.deletions.collect()
        assert house.store.stored_objects() == {}

    run(house, scenario)
    assert num_served > 50
    assert sum(one.num_objects for one in freed) > 2
