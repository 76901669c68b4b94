from pathlib import Path

import pytest

from tests.contract.architectures import make_base


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base("llama", tmp_path_factory.mktemp("plain") / "base")
