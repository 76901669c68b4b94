import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.house import House
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import TinyBase, make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def lora(base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The PEFT folder of a seed; other seed, other content."""
    made: dict[int, Path] = {}

    def get(seed: int) -> Path:
        if seed not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[seed] = make_lora(base, tmp_path_factory.mktemp(f"lora{seed}"), seed=seed)
        return made[seed]

    return get


@pytest.fixture
def house(tmp_path: Path, base: TinyBase) -> House:
    return House(tmp_path / "store", base.description)
