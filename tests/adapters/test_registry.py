import asyncio
from collections import UserDict
from dataclasses import replace

import pytest

from service.adapters.registry import AdapterRegistry
from service.adapters.shares import Shares
from service.core import AdapterRef
from service.errors import ModelNotFound


def ref(number: int, digest: str, name: str = "a") -> AdapterRef:
    return AdapterRef(name, number, digest * 64, 0)


@pytest.fixture
def registry() -> AdapterRegistry:
    registry = AdapterRegistry()
    registry.register("a", {1: ref(1, "1"), 2: ref(2, "2")}, current=2)
    return registry


def test_every_way_to_name_a_version(registry: AdapterRegistry) -> None:
    assert registry.resolve("a").version == 2
    assert registry.resolve("a@1").version == 1
    assert registry.resolve("a@sha256:" + "1" * 8).version == 1


@pytest.mark.parametrize(
    "model", ["b", "a@3", "a@sha256:99999999", "a@stable", "a@", "", "../a", "a@sha256:1"]
)
def test_what_does_not_exist(registry: AdapterRegistry, model: str) -> None:
    with pytest.raises(ModelNotFound):
        registry.acquire(model)


def test_an_alias_is_a_way_to_name_a_version(registry: AdapterRegistry) -> None:
    versions = {number: ref(number, str(number)) for number in (1, 2)}
    registry.register("a", versions, 2, {"stable": ((1, 1),), "canary": ((1, 95), (2, 5))})
    assert registry.acquire("a@stable", "anybody").version == 1
    assert registry.resolve("a@canary").version == 1, "the largest share where nobody asks"
    assert {registry.resolve("a@canary", str(i)).version for i in range(200)} == {1, 2}
    registry.register("a", versions, 2)
    with pytest.raises(ModelNotFound):
        registry.resolve("a@stable")


def test_an_alias_to_a_version_that_cannot_be_used_leads_nowhere_else(
    registry: AdapterRegistry,
) -> None:
    registry.register("a", {2: ref(2, "2")}, 2, {"stable": ((1, 1),)})
    with pytest.raises(ModelNotFound):
        registry.resolve("a@stable")


def test_the_few_of_one_canary_are_not_the_few_of_another(registry: AdapterRegistry) -> None:
    versions = {number: ref(number, str(number)) for number in (1, 2)}
    half = ((1, 1), (2, 1))
    registry.register("a", versions, 2, {"x": half, "y": half})
    keys = [str(i) for i in range(400)]
    same = sum(
        registry.resolve("a@x", k).version == registry.resolve("a@y", k).version for k in keys
    )
    assert 140 < same < 260


def test_uses_are_counted_by_content(registry: AdapterRegistry) -> None:
    registry.register("b", {1: ref(1, "1", "b")}, current=1)
    one, other = registry.acquire("a@1"), registry.acquire("b")
    assert registry.in_use("1" * 64) == 2
    registry.release(one)
    assert registry.in_use("1" * 64) == 1
    registry.release(other)
    assert registry.in_use("1" * 64) == 0


def test_a_bound_version_outlives_its_name(registry: AdapterRegistry) -> None:
    async def scenario() -> None:
        bound = registry.acquire("a")
        registry.register("a", {3: ref(3, "3")}, current=3)
        assert registry.acquire("a").version == 3
        registry.unregister("a")
        with pytest.raises(ModelNotFound):
            registry.acquire("a")
        waiting = asyncio.create_task(registry.drain(bound.digest))
        await asyncio.sleep(0)
        assert not waiting.done()
        registry.release(bound)
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(registry.drain("9" * 64), 1)

    asyncio.run(scenario())


def test_content_knows_every_name_that_leads_to_it(registry: AdapterRegistry) -> None:
    other = ref(1, "1", "team-a/b")
    registry.register("team-a/b", {1: other}, current=1)
    assert registry.named("1" * 64) == (ref(1, "1"), other)
    registry.register("a", {2: ref(2, "2"), 3: ref(3, "1")}, current=2)
    assert registry.named("1" * 64) == (other, ref(3, "1"))
    registry.unregister("a")
    registry.unregister("team-a/b")
    assert registry.named("1" * 64) == registry.named("2" * 64) == ()


def test_what_can_be_written_is_what_resolves(registry: AdapterRegistry) -> None:
    versions = {number: ref(number, str(number)) for number in (1, 2, 3)}
    aliases = {"stable": ((1, 1),), "canary": ((1, 5), (2, 95)), "best": ((2, 1),)}
    registry.register("a", versions, 2, aliases)
    assert registry.written("a", 1) == ["a@stable", "a@1"]
    assert registry.written("a", 2) == ["a", "a@best", "a@canary", "a@2"]
    for version in versions:
        for model in registry.written("a", version):
            assert registry.resolve(model).version == version
    assert registry.written("a", 4) == registry.written("b", 1) == []
    registry.set_end("a", 1)
    assert registry.written("a", 1) == []


def test_the_mean_counts_each_content_once_as_long_as_it_has_a_name() -> None:
    registry = AdapterRegistry()
    assert registry.mean_bytes == 0
    small, large = AdapterRef("a", 1, "s", 10), AdapterRef("a", 2, "l", 30)
    registry.register("a", {1: small, 2: large}, current=2)
    registry.register("b", {1: replace(large, name="b", version=1)}, current=1)
    assert registry.mean_bytes == 20
    registry.register("a", {1: small}, current=1)
    assert registry.mean_bytes == 20
    registry.unregister("b")
    assert registry.mean_bytes == 10


def test_its_revision_tells_that_a_name_leads_elsewhere(registry: AdapterRegistry) -> None:
    seen = [registry.revision]
    registry.register("a", {1: ref(1, "1"), 2: ref(2, "2")}, current=1)
    seen.append(registry.revision)
    registry.unregister("a")
    seen.append(registry.revision)
    assert seen == sorted(set(seen))


def test_whoever_sees_its_revision_sees_what_it_stands_for(registry: AdapterRegistry) -> None:
    before, seen = registry.revision, set[int]()

    class Aliases(UserDict[str, Shares]):
        """A thread may look while they are taken over."""

        def __getitem__(self, alias: str) -> Shares:
            seen.add(registry.revision)
            return super().__getitem__(alias)

    registry.register("a", {1: ref(1, "1")}, 1, Aliases({"stable": ((1, 1),)}))
    assert seen == {before} != {registry.revision}
