"""`adapters import` and `imports …`: what is printed, and the exit status."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.__main__ import main
from tests.api.conftest import serve
from tests.cli.line import Line
from tests.client.house_app import HouseApp

Loras = Callable[[int], Path]


@pytest.fixture
def line(
    house: HouseApp, lora: Loras, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Line]:
    shutil.copytree(lora(1), tmp_path / "root" / "one")
    house.settings["source_root"] = tmp_path / "root"
    with serve(house.app()) as url:
        yield Line(url, capsys)


def test_an_import_is_waited_for_and_shown(line: Line) -> None:
    text = line("adapters", "import", "one", "--name", "a", "--ttl", "7d")
    assert text.startswith("a is now version 1\n")
    assert "source          one" in text
    begun = json.loads(line("adapters", "import", "one", "--name", "a", "--no-wait", "--json"))
    assert begun["object"] == "adapter.import"
    head, *rows = line("imports", "list").splitlines()
    assert head.split() == ["ID", "NAME", "STATE", "FETCHED", "BEGUN", "SOURCE"]
    assert {row.split()[0] for row in rows} >= {begun["id"]}
    assert "origin          one, 20" in line("adapters", "show", "a")
    assert "does not exist" in line("imports", "show", "0" * 24, status=1)
    assert "--source-hosts" in line(
        "adapters", "import", "https://files.test/a", "--name", "a", status=1
    )


def test_a_failure_is_the_exit_status(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "import", "nothing", "--name", "a", "--url", line.url]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("a: the import has failed\n")
    assert "source_not_found: There is no nothing." in out
    assert err == ""
    import_id = json.loads(line("imports", "list", "--json"))[0]["id"]
    assert line("imports", "stop", import_id).startswith("a: the import has failed\n")


def test_progress_is_for_terminals(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.cli.progress.sys.stderr.isatty", lambda: True)
    assert main(["adapters", "import", "one", "--name", "a", "--url", line.url]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a is now version 1\n")
    assert " a" in err
    assert "a is now" not in err
