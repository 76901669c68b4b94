"""The README does what it says: its `sh` and `python` blocks run, in order, on a real server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings
from tests.server import ROOT, Server

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def copy_demo_store(target: Path) -> Path:
    ignore = shutil.ignore_patterns(".repertoire", "README.md")
    shutil.copytree(ROOT / "adapters_store", target, ignore=ignore)
    return target


def test_readme_blocks_run(tmp_path: Path) -> None:
    store = copy_demo_store(tmp_path / "store")
    with Server(ROOT / "demo/demo-base", tmp_path, store=store) as server:
        outputs = [run_block(kind, text, server.url) for kind, text in BLOCKS]
    everything = "\n".join(outputs)
    for expected in (
        "2024-03-05",
        "the-quick-brown-fox",
        "1789-07-14",
        "1944-06-06",
        "1945-05-08",
        "+14155550132",
        "BLUE RIVER",
        "decode;dur=",
    ):
        assert expected in everything
    assert '"deleted":true' in everything.replace(" ", "")


def run_block(kind: str, text: str, url: str) -> str:
    text = text.replace("http://127.0.0.1:8000", url).replace("curl -s", "curl --fail-with-body -s")
    text = text.replace(".venv/bin/python", shlex.quote(sys.executable))
    environment = os.environ | {"REPERTOIRE_CLIENT_URL": url}
    command = [sys.executable, "-c", text] if kind == "python" else ["bash", "-euc", text]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_readme_has_blocks_of_each_sort() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize("flag", re.findall(r"`(--[a-z-]+)`", README))
def test_flags_that_the_readme_names_exist(flag: str) -> None:
    known = {"--" + name.replace("_", "-") for name in Settings.model_fields}
    switches = {name for name, info in Settings.model_fields.items() if info.annotation is bool}
    known |= {"--no-" + name.replace("_", "-") for name in switches}
    assert flag in known | {"--help", "--json", "--url", "--key", "--no-wait", "--build-arg"}
