import json
import shutil
import warnings
from pathlib import Path

import pytest

from service.adapters.files import CHAT_TEMPLATE
from service.adapters.limits import AdapterLimits
from service.compiler.job import encode_base
from service.compiler.launcher import ChildCompiler
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import make_base
from tests.crash.scenario import Kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("kit")
    base = make_base(folder / "base")
    (folder / "base.json").write_text(encode_base(base.description))
    compiler = ChildCompiler(base.description, AdapterLimits())
    for seed in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_lora(base, folder / str(seed), seed=seed)
        if seed == 2:
            (folder / "2" / CHAT_TEMPLATE).write_text("{{ messages[0].content }}\n")
        work = folder / f"work{seed}"
        work.mkdir()
        outcome = compiler.compile(folder / str(seed), work)
        shutil.copyfile(outcome.compiled, folder / f"{seed}.compiled")
        (folder / f"{seed}.json").write_text(json.dumps(outcome.manifest.to_json()))
    return Kit(folder)


@pytest.fixture
def root(tmp_path: Path, kit: Kit) -> Path:
    """A store with one adapter that was put there by hand."""
    shutil.copytree(kit.adapter(3), tmp_path / "store" / "shipped")
    return tmp_path / "store"
