from collections.abc import Iterator

import pytest

from tests.api.conftest import _clean_environment, _logging, serve
from tests.cli.line import Line
from tests.client.conftest import base, house, lora
from tests.client.house_app import HouseApp

__all__ = ["_clean_environment", "_logging", "base", "house", "lora"]


@pytest.fixture
def line(house: HouseApp, capsys: pytest.CaptureFixture[str]) -> Iterator[Line]:
    with serve(house.app()) as url:
        yield Line(url, capsys)
