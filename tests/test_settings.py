"""Every setting is a variable and a flag, and a wrong one stops the start with a sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.parser import parse_command_line
from service.errors import ConfigurationError
from service.settings import Settings, unknown_variables

SERVE = ["serve", "--base-model", "demo/base"]
UNITS = (
    r"\((path|URL|name|number|count|tokens|seconds|fraction|switch|text|name or IP)\)|Bytes|path"
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"HOME": "/home/somebody"})


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_and_in_which_unit(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description, f"{name} has no description"
    assert re.search(UNITS, description) or name in {"revision", "served_model_name"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_help_names_every_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["serve", "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--{name.replace('_', '-')} " in shown
    assert shown.count("[default: ") + shown.count("[required]") == len(Settings.model_fields)


def test_a_flag_wins_over_a_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.model_fields["max_num_seqs"].default
    assert parse_command_line(SERVE).max_num_seqs == default != 7
    monkeypatch.setenv("REPERTOIRE_MAX_NUM_SEQS", "7")
    assert parse_command_line(SERVE).max_num_seqs == 7
    assert parse_command_line([*SERVE, "--max-num-seqs", "9"]).max_num_seqs == 9


def test_a_switch_that_is_on_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_command_line(SERVE).prefix_cache
    assert not parse_command_line([*SERVE, "--no-prefix-cache"]).prefix_cache
    monkeypatch.setenv("REPERTOIRE_PREFIX_CACHE", "false")
    assert not parse_command_line(SERVE).prefix_cache
    assert parse_command_line([*SERVE, "--prefix-cache"]).prefix_cache


def test_the_plain_port_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8001")
    assert parse_command_line(SERVE).port == 8001
    monkeypatch.setenv("REPERTOIRE_PORT", "8002")
    assert parse_command_line(SERVE).port == 8002


def test_a_kubernetes_service_link_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPERTOIRE_PORT", "tcp://10.0.0.1:8000")
    assert parse_command_line(SERVE).port == 8000


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("512MB", 512_000_000), ("1048576", 1 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_command_line([*SERVE, "--kv-bytes", text]).kv_bytes == size


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve"], "--base-model: field required"),
        ([*SERVE, "--prot", "1"], "unrecognized arguments: --prot 1"),
        ([*SERVE, "--max-num", "1"], "unrecognized arguments: --max-num 1"),
        ([*SERVE, "--port", "abc"], "--port: input should be a valid integer"),
        ([*SERVE, "--port", "70000"], "--port: input should be less than or equal to 65535"),
        ([*SERVE, "--kv-bytes", "much"], "--kv-bytes: could not parse"),
        ([*SERVE, "--kv-bytes", "-1"], "--kv-bytes: "),
        ([*SERVE, "--device", "tpu"], "--device: input should be 'auto', 'cpu' or 'cuda'"),
        ([*SERVE, "--gpu-memory-utilization", "1.5"], "--gpu-memory-utilization: "),
        ([*SERVE, "--host", "0.0.0.0"], "--allow-unauthenticated"),
        ([*SERVE, "--block-size", "0"], "--block-size: input should be greater than 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_command_line(arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named_like_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPERTOIRE_THREADS", "many")
    with pytest.raises(ConfigurationError, match="--threads: "):
        parse_command_line(SERVE)


def test_the_process_ends_with_code_2_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", *SERVE, "--no-such-flag"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 2
    assert done.stderr == "repertoire: unrecognized arguments: --no-such-flag\n"


def test_unknown_variables_are_found() -> None:
    environment = {
        "REPERTOIRE_PROT": "1",
        "REPERTOIRE_PORT": "1",
        "REPERTOIRE_SERVICE_HOST": "x",
        "REPERTOIRE_PORT_8000_TCP": "x",
        "PATH": "x",
    }
    assert unknown_variables(environment) == ["REPERTOIRE_PROT"]


def test_frozen() -> None:
    settings = parse_command_line(SERVE)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("base_model", "name"),
    [("demo/base", "base"), ("/models/Llama-3/", "Llama-3"), ("org/tiny", "tiny")],
)
def test_the_served_name_is_no_path(base_model: str, name: str) -> None:
    assert Settings(base_model=base_model).model_name == name
    assert Settings(base_model=base_model, served_model_name="a/b").model_name == "a/b"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_key(host: str) -> None:
    assert Settings(base_model="x", host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org"])
def test_another_host_needs_a_key(host: str) -> None:
    with pytest.raises(ValueError, match="allow-unauthenticated"):
        Settings(base_model="x", host=host)
    Settings(base_model="x", host=host, allow_unauthenticated=True)
    Settings(base_model="x", host=host, api_key=("k",))


def test_keys_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\n\n third \n")
    arguments = [*SERVE, "--api-key", "first", "--api-key", "second", "--api-key-file", str(file)]
    assert parse_command_line(arguments).api_keys() == ("first", "second", "third")
    monkeypatch.setenv("REPERTOIRE_API_KEY", "fourth, fifth")
    assert parse_command_line(SERVE).api_keys() == ("fourth", "fifth")


@pytest.mark.parametrize("content", [None, "# nothing\n"])
def test_a_key_file_without_keys_must_not_open_the_server(
    content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match="--api-key-file"):
        Settings(base_model="x", api_key_file=file).api_keys()


def test_keys_are_never_shown() -> None:
    settings = parse_command_line([*SERVE, "--api-key", "hunter2"])
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    with pytest.raises(ConfigurationError) as caught:
        parse_command_line([*SERVE, "--api-key", "hunter2", "--port", "x"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_command_line([*SERVE, "--api-key", key])
