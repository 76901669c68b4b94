import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.adapters.limits import AdapterLimits
from service.errors import (
    AdapterNotFound,
    AdapterRefused,
    InvalidRequest,
    ModelNotFound,
    NameConflict,
    StoreFull,
)
from service.tenancy import ANYONE
from tests.adapters.house import House, run
from tests.adapters.tiny_base import TinyBase

Lora = Callable[[int], Path]


def reopened(house: House) -> House:
    return House(house.root, house.base, house.limits, house.is_base_strict, house.cache_bytes)


def test_publish_makes_a_version_that_can_be_acquired(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        result = await house.publish("a", lora(1))
        assert (result.version.number, result.is_created) == (1, True)
        assert (result.version.kind, result.version.rank) == ("lora", 4)
        assert result.version.targets == ("q_proj", "v_proj")
        assert result.unused_files == ("README.md",)
        ref = house.registry.acquire("a")
        assert ref.digest == result.version.digest
        with house.cache.open(ref) as file:
            assert file.read(8) == b"RPTRTERM"
        assert house.cache.stats().hits == 1

    run(house, scenario)


def test_new_content_makes_the_next_version_and_old_content_moves_back(
    house: House, lora: Lora
) -> None:
    async def scenario() -> None:
        first = await house.publish("a", lora(1))
        bound = house.registry.acquire("a")
        second = await house.publish("a", lora(2))
        assert second.version.number == 2
        assert house.registry.resolve("a").version == 2
        assert house.registry.resolve("a@1").digest == bound.digest == first.version.digest
        prefix = f"a@sha256:{second.version.digest[:8]}"
        assert house.registry.resolve(prefix).version == 2

        again = await house.publish("a", lora(2))
        assert (again.version.number, again.is_created) == (2, False)
        back = await house.publish("a", lora(1))
        assert (back.version.number, back.is_created) == (1, True)
        assert house.registry.resolve("a").version == 1

    run(house, scenario)


def test_numbers_are_not_reused_after_a_delete(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.service.delete("a")
        with pytest.raises(ModelNotFound):
            house.registry.resolve("a")
        with pytest.raises(AdapterNotFound):
            house.service.get("a")
        with pytest.raises(AdapterNotFound):
            await house.service.delete("a")
        assert (await house.publish("a", lora(1))).version.number == 2
        with pytest.raises(ModelNotFound):
            house.registry.resolve("a@1")

    run(house, scenario)


def test_everything_survives_a_restart(house: House, lora: Lora) -> None:
    async def publish() -> None:
        await house.publish("a", lora(1))
        await house.publish("a", lora(2))
        await house.publish("gone", lora(1))
        await house.service.delete("gone")

    run(house, publish)
    again = reopened(house)

    async def check() -> None:
        assert again.service.get("a").versions[1].is_current
        assert [view.number for view in again.service.get("a").versions] == [1, 2]
        with pytest.raises(AdapterNotFound):
            again.service.get("gone")
        again.cache.open(again.registry.acquire("a")).close()
        assert again.cache.stats().hits == 1

    run(again, check)


def test_content_is_removed_when_the_last_request_has_finished(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        await house.publish("a", lora(1))
        await house.publish("b", lora(1))
        ref = house.registry.acquire("a")
        stored = house.store.object_folder(ref.digest)
        await house.service.delete("a")
        assert house.unloaded == [], "the other name still leads to it"
        await house.service.delete("b")
        assert house.unloaded == [ref.digest]
        house.cache.drop(ref.digest)
        house.cache.open(ref).close()
        assert stored.exists(), "a bound request may still need a cold load"
        house.registry.release(ref)
        for _ in range(200):
            await asyncio.sleep(0.01)
            if not stored.exists() and not house.cache.has(ref.digest):
                break
        assert not stored.exists()
        assert not house.cache.has(ref.digest)

    run(house, scenario)


def test_concurrent_uploads_get_consecutive_versions(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        results = await asyncio.gather(*(house.publish("a", lora(seed)) for seed in (1, 2, 3)))
        assert sorted(result.version.number for result in results) == [1, 2, 3]
        assert house.registry.resolve("a").version == 3
        assert list(house.store.temporary.iterdir()) == []

    run(house, scenario)


def test_an_upload_whose_client_left_is_finished(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(house.publish("a", lora(1)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(house, scenario)
    assert house.registry.resolve("a").version == 1
    assert list(house.store.temporary.iterdir()) == []


def test_names_are_checked(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        for name in ("", "../x", "A/b", "a/b/c", "/b", ".hidden", "a b", "x" * 129, "a@1", "ä"):
            with pytest.raises(InvalidRequest):
                await house.publish(name, lora(1))
        with pytest.raises(NameConflict):
            await house.publish("tiny-base", lora(1))
        assert list(house.store.temporary.iterdir()) == []

    run(house, scenario)


def test_a_full_store_keeps_what_it_has(tmp_path: Path, base: TinyBase, lora: Lora) -> None:
    size = sum(
        (lora(1) / name).stat().st_size
        for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    house = House(tmp_path / "store", base.description, AdapterLimits(store_budget_bytes=size + 9))

    async def scenario() -> None:
        await house.publish("a", lora(1))
        with pytest.raises(StoreFull):
            await house.publish("b", lora(2))
        await house.publish("c", lora(1))
        assert [view.name for view in house.service.visible.list(ANYONE, None, 10, None)[0]] == [
            "a",
            "c",
        ]
        assert len(house.store.stored_objects()) == 1

    run(house, scenario)


def test_pages_follow_the_order_of_names(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        for name in ("b", "a", "c"):
            await house.publish(name, lora(1))
        page, has_more = house.service.visible.list(ANYONE, None, 2, None)
        assert ([view.name for view in page], has_more) == (["a", "b"], True)
        page, has_more = house.service.visible.list(ANYONE, None, 2, "b")
        assert ([view.name for view in page], has_more) == (["c"], False)
        entry = house.service.visible.find_model(ANYONE, "c@1")
        assert (entry.id, entry.parent, entry.version) == ("c@1", "tiny-base", 1)
        assert [entry.id for entry in house.service.visible.list_models(ANYONE)] == ["a", "b", "c"]

    run(house, scenario)


def test_a_folder_put_there_by_hand_becomes_a_version_once(
    house: House, lora: Lora, tmp_path: Path
) -> None:
    folder = house.root / "shipped"
    shutil.copytree(lora(1), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(house, _expect_version(house, "shipped", 1))

    calls = []
    again = reopened(house)
    again.compiler.compile = lambda *arguments: calls.append(arguments)
    run(again, _expect_version(again, "shipped", 1))
    assert calls == [], "nothing changed, so nothing is compiled again"

    deleted = reopened(house)

    async def delete() -> None:
        await deleted.service.delete("shipped")

    run(deleted, delete)
    for _ in range(2):
        third = reopened(house)

        async def check(third=third) -> None:
            with pytest.raises(AdapterNotFound):
                third.service.get("shipped")

        run(third, check)
        (house.root / ".repertoire" / "folders.json").unlink(missing_ok=True)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}

    shutil.rmtree(folder)
    shutil.copytree(lora(2), folder)
    fourth = reopened(house)
    run(fourth, _expect_version(fourth, "shipped", 2))


def _expect_version(house: House, name: str, number: int):
    async def check() -> None:
        assert house.service.get(name).current.number == number
        assert house.registry.resolve(name).version == number
        assert "README.md" in house.service.get(name).current.unused_files

    return check


def test_broken_folders_are_listed_and_do_not_stop_the_start(house: House, lora: Lora) -> None:
    shutil.copytree(lora(1), house.root / "good")
    for name in ("broken", "bad name", "tiny-base"):
        shutil.copytree(lora(1), house.root / name)
    config = json.loads((lora(1) / "adapter_config.json").read_text())
    config["peft_type"] = "NO_SUCH_KIND"
    (house.root / "broken" / "adapter_config.json").write_text(json.dumps(config))

    async def scenario(house: House) -> None:
        views, _ = house.service.visible.list(ANYONE, None, 10, None)
        states = {view.name: (view.state, [one.code for one in view.reasons]) for view in views}
        assert states == {
            "good": ("ready", []),
            "broken": ("errored", ["unsupported_kind"]),
            "bad name": ("errored", ["invalid_name"]),
            "tiny-base": ("errored", ["invalid_name"]),
        }
        with pytest.raises(NameConflict):
            await house.service.delete("broken")
        await house.publish("broken", lora(2))
        assert house.service.get("broken").state == "ready"

    run(house, lambda: scenario(house))


def test_another_base_is_a_warning_or_a_refusal(tmp_path: Path, base: TinyBase, lora: Lora) -> None:
    folder = shutil.copytree(lora(1), tmp_path / "other")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "acme/another-model"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    lenient = House(tmp_path / "lenient", base.description)
    strict = House(tmp_path / "strict", base.description, is_base_strict=True)

    async def accept() -> None:
        result = await lenient.publish("a", folder)
        assert "another-model" in result.warnings[0]
        assert lenient.service.get("a").current.warnings == result.warnings

    async def refuse() -> None:
        with pytest.raises(AdapterRefused) as caught:
            await strict.publish("a", folder)
        assert caught.value.refusals[0].code == "wrong_base"

    run(lenient, accept)
    run(strict, refuse)
