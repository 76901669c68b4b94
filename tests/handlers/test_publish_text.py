"""A version's own text: stored with it, part of what it is, found again after everything."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.text_files import text_digest
from tests.adapters.house import House, run
from tests.adapters.tiny_base import TinyBase
from tests.compiler.text_job import write_files

TEMPLATE = "{{ messages[-1].content }}\n"
Lora = Callable[[int], Path]


def with_template(folder: Path, target: Path, text: str = TEMPLATE) -> Path:
    shutil.copytree(folder, target)
    (target / "chat_template.jinja").write_text(text)
    return target


def test_a_template_is_part_of_the_version(house: House, lora: Lora, tmp_path: Path) -> None:
    async def scenario() -> None:
        plain = await house.publish("a", lora(1))
        own = await house.publish("a", with_template(lora(1), tmp_path / "own"))
        assert own.version.number == 2
        assert own.version.digest != plain.version.digest
        assert (plain.version.has_chat_template, own.version.has_chat_template) == (False, True)
        assert own.version.num_bytes == plain.version.num_bytes + len(TEMPLATE)
        assert own.unused_files == ("README.md",)
        folder = house.store.object_folder(own.version.digest)
        assert (folder / "chat_template.jinja").read_text() == TEMPLATE
        plain_folder = house.store.object_folder(plain.version.digest)
        assert not (plain_folder / "chat_template.jinja").exists()
        digest = text_digest({"chat_template.jinja": TEMPLATE.encode()})
        assert house.registry.resolve("a@2").text_digest == digest
        assert house.registry.resolve("a@1").text_digest == ""

        other = with_template(lora(1), tmp_path / "other", TEMPLATE + "!")
        assert (await house.publish("a", other)).version.number == 3
        again = with_template(lora(1), tmp_path / "again", TEMPLATE.rstrip("\n"))
        assert (await house.publish("a", again)).version.digest == own.version.digest

    run(house, scenario)


def test_it_survives_a_restart_and_a_lost_cache(house: House, lora: Lora, tmp_path: Path) -> None:
    digests = []

    async def publish() -> None:
        result = await house.publish("a", with_template(lora(1), tmp_path / "own"))
        digests.append(result.version.digest)
        house.cache.drop(result.version.digest)

    run(house, publish)
    reopened = House(house.root, house.base)

    async def use() -> None:
        ref = reopened.registry.acquire("a")
        assert (ref.digest, len(ref.text_digest)) == (digests[0], 64)
        with reopened.cache.open(ref) as file:
            assert file.read(8) == b"RPTRTERM"
        assert reopened.service.get("a").versions[0].has_chat_template

    run(reopened, use)


def test_added_tokens_survive_a_lost_cache(base: TinyBase, lora: Lora, tmp_path: Path) -> None:
    """Then the compiler reads what it wrote itself, which is no longer the client's file."""
    model = {"type": "WordLevel", "vocab": {f"t{number}": number for number in range(90)}}
    tokenizer = {"model": model, "added_tokens": []}
    folder = write_files(tmp_path / "base", {"tokenizer.json": tokenizer})
    house = House(tmp_path / "store", replace(base.description, folder=str(folder)))
    own = shutil.copytree(lora(1), tmp_path / "own")
    write_files(own, {"added_tokens.json": {"<a>": 90, "<b>": 91}})

    async def scenario() -> None:
        result = await house.publish("a", own)
        assert result.version.num_added_tokens == 2
        assert result.unused_files == ("README.md",)
        house.cache.drop(result.version.digest)
        with house.cache.open(house.registry.acquire("a")) as file:
            assert file.read(8) == b"RPTRTERM"

    run(house, scenario)


def test_a_folder_in_the_store_keeps_its_template(house: House, lora: Lora, tmp_path: Path) -> None:
    with_template(lora(1), house.root / "mine")
    (house.root / "mine" / "tokenizer_config.json").write_text(json.dumps({"padding_side": "left"}))

    async def scenario() -> None:
        (version,) = house.service.get("mine").versions
        assert version.has_chat_template
        assert version.unused_files == ("README.md", "tokenizer_config.json")

    run(house, scenario)


def test_an_archive_keeps_its_template(house: House, lora: Lora, tmp_path: Path) -> None:
    folder = with_template(lora(1), tmp_path / "own")
    data = Path(shutil.make_archive(str(tmp_path / "own"), "gztar", tmp_path, "own")).read_bytes()

    async def scenario() -> None:
        staging = house.stage(folder)
        plain = await house.service.publish("files", staging)
        staging = await house.service.intake.open(0)
        staging.begin_archive()
        staging.write(data)
        staging.end()
        packed = await house.service.publish("archive", staging)
        assert packed.version.digest == plain.version.digest
        assert packed.version.has_chat_template

    run(house, scenario)


def test_deleting_removes_the_text_too(house: House, lora: Lora, tmp_path: Path) -> None:
    async def scenario() -> None:
        result = await house.publish("a", with_template(lora(1), tmp_path / "own"))
        await house.service.delete("a")
        for _ in range(100):
            if not house.store.has_object(result.version.digest):
                return
            await asyncio.sleep(0.05)
        pytest.fail("the content is still there")

    run(house, scenario)
