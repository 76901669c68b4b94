"""A control plane whose uploads cost nothing: content alone decides what a version is."""

from pathlib import Path

from tests.adapters.house import House
from tests.fakes import base_description
from tests.fuzz.app import HashCompiler


def cheap_house(root: Path, **options: object) -> House:
    return House(root, base_description(), compiler=HashCompiler(), **options)


def folder(root: Path, number: int) -> Path:
    """An adapter of its own for each number."""
    made = root / f"made{number}"
    if not made.exists():
        made.mkdir(parents=True)
        (made / "adapter_config.json").write_text(f'{{"number": {number}}}')
        (made / "adapter_model.safetensors").write_bytes(b"\0")
    return made
