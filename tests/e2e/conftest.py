from pathlib import Path

import pytest

from tests.contract.architectures import make_base
from tests.e2e.observed import Observed, observe


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base("llama", tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def observed(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return observe(base_folder, tmp_path_factory.mktemp("observed"))
