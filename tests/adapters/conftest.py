"""The places of stores that suites here run over."""

from pathlib import Path

import pytest

from tests.adapters.places import KINDS, Place, place_of


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)
