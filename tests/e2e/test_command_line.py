"""The walk of an operator, by the command line alone, on a real server that wants a key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import tiny_adapters as tiny
from tests.server import ROOT, Server

KEY = "operators-key"
PROMPT = [5, 9, 40, 77]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    work = tmp_path_factory.mktemp("tiny")
    return [tiny.write(work / str(seed), seed) for seed in (1, 2)]


def command(server: Server, *words: object, status: int = 0) -> str:
    environment = {"REPERTOIRE_CLIENT_URL": server.url, "REPERTOIRE_CLIENT_KEY": KEY}
    line = [sys.executable, "-m", "service", *map(str, words)]
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout or done.stderr


def answering(server: Server, model: str) -> tuple[str, str]:
    """The version that answers, and its text."""
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 8}
    response = server.client.post(
        "/v1/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert response.status_code == 200, response.text
    return response.headers["x-adapter-version"], response.json()["choices"][0]["text"]


def test_an_operators_walk(base_folder: Path, folders: list[Path], tmp_path: Path) -> None:
    with Server(base_folder, tmp_path, api_key=KEY) as server:
        for number, folder in enumerate(folders, 1):
            pushed = command(server, "adapters", "push", folder, "--name", "task")
            assert pushed.startswith(f"task is now version {number}\n")
        shown = json.loads(command(server, "adapters", "show", "task", "--json"))
        assert shown["current"]["version"] == 2
        command(server, "adapters", "alias", "task", "stable=1", "--if-match", shown["etag"])
        newest, stable = answering(server, "task"), answering(server, "task@stable")
        assert (newest[0], stable[0]) == ("task@2", "task@1")
        assert newest[1] != stable[1]
        command(server, "adapters", "rollback", "task")
        assert answering(server, "task") == stable
        command(server, "adapters", "rm", "task")
        command(server, "adapters", "restore", "task@2")
        assert answering(server, "task") == newest
        command(server, "adapters", "rm", "task")
        gone = command(server, "adapters", "show", "task", status=1)
        assert gone == "repertoire: The adapter 'task' does not exist.\n"
        wrong = command(server, "adapters", "list", "--key", "wrong", status=1)
        assert wrong.startswith("repertoire: ")
    assert "Nothing answers" in command(server, "adapters", "list", status=2)
