"""A sample of the demo evaluation, all adapters and the base mixed in one load."""

import json
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT, Server
from tests.test_readme import copy_demo_store


def test_every_demo_adapter_does_its_task(tmp_path: Path) -> None:
    store = copy_demo_store(tmp_path / "store")
    report = tmp_path / "scores.json"
    with Server(ROOT / "demo/demo-base", tmp_path, store=store) as server:
        command = [sys.executable, "demo/eval.py", "--url", server.url, "--json", str(report)]
        result = subprocess.run(
            [*command, "--per-task", "20"], cwd=ROOT, capture_output=True, text=True, timeout=240
        )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "to-json" in result.stdout
    assert json.loads(report.read_text())
