"""What a command line comes to, and what it costs to find out."""

import subprocess
import sys

import pytest

from service.__main__ import main
from service.cli.command import Operation
from service.cli.parser import parse_command_line
from service.errors import ConfigurationError
from tests.server import ROOT

SLOW = ("torch", "transformers", "fastapi", "uvicorn", "pydantic_settings", "structlog", "numpy")


def test_a_command_of_operators_is_an_operation() -> None:
    line = ["adapters", "alias", "a", "stable=1", "--url", "http://x", "--key", "k", "--json"]
    operation = parse_command_line(line)
    assert isinstance(operation, Operation)
    assert (operation.url, operation.key, operation.is_json) == ("http://x", "k", True)
    assert (operation.options.name, operation.options.aliases) == ("a", ["stable=1"])


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["adapters"],
        ["adapter", "list"],
        ["adapters", "destroy"],
        ["adapters", "show"],
        ["adapters", "push", "folder"],
        ["adapters", "push", "folder", "--name", "a", "--convert", "dora"],
        ["adapters", "list", "--ur", "http://x"],
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError):
        parse_command_line(line)
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("repertoire: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line", ["--help", "adapters --help", "adapters list --url http://127.0.0.1:1"]
)
def test_commands_of_operators_import_nothing_of_the_server(line: str) -> None:
    code = (
        "import sys\nfrom service.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {SLOW} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", code, *line.split()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
