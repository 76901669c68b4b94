from pathlib import Path

import pytest

from tests.adapters.tiny_base import TinyBase
from tests.api.conftest import _clean_environment, _logging
from tests.client.house_app import HouseApp
from tests.handlers.conftest import base, lora

__all__ = ["_clean_environment", "_logging", "base", "lora"]


@pytest.fixture
def house(tmp_path: Path, base: TinyBase) -> HouseApp:
    return HouseApp(tmp_path / "store", base)
