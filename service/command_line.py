"""The command line: which flags each subcommand has, and what they come to."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from service.errors import ConfigurationError
from service.settings import ENV_PREFIX, Settings, resolve_settings

_CHECK_FLAGS = (
    "base_model", "revision", "served_model_name", "device", "dtype", "quantization", "threads",
    "max_lora_rank", "strict_base", "device_adapter_bytes", "host_adapter_bytes",
    "max_upload_bytes", "compile_timeout_s", "compile_memory_bytes", "log_level", "log_format",
)  # fmt: skip
"""Settings that decide whether an adapter is accepted, and how that is found out."""


@dataclass(frozen=True, slots=True)
class CheckArguments:
    settings: Settings
    source: Path
    """A PEFT folder, or an archive of one."""
    is_json: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def parse_command_line(arguments: Sequence[str]) -> Settings | CheckArguments:
    """The settings of `serve [--flag value …]`, completed from the environment, or a `check`.

    Raises `ConfigurationError` with one sentence; `--help` prints and exits.
    """
    parser = _Parser(prog="python -m service", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve,check}")
    _add_serve(commands)
    _add_check(commands)
    given = vars(parser.parse_args(arguments))
    if given.pop("command") == "serve":
        return resolve_settings(given)
    source, is_json = given.pop("source"), given.pop("json")
    # The variables of a server may lie around here too, but nothing will listen.
    return CheckArguments(resolve_settings(given | {"host": "127.0.0.1"}), source, is_json)


def _add_serve(commands: "argparse._SubParsersAction[_Parser]") -> None:
    serve = commands.add_parser(
        "serve",
        help="start the server",
        allow_abbrev=False,
        description="Every flag is also an environment variable: --max-num-seqs is "
        f"{ENV_PREFIX}MAX_NUM_SEQS. Flags win.",
    )
    for name, info in Settings.model_fields.items():
        _add_flag(serve, name, info)


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="say whether an adapter would be accepted",
        allow_abbrev=False,
        description="Does what an upload does, without a server and without keeping anything. "
        "Exit status: 0 = accepted, 1 = refused, 2 = it could not be found out.",
    )
    check.add_argument(
        "source", type=Path, metavar="FOLDER", help="PEFT folder, or a .zip or .tar.gz of one"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    for name in _CHECK_FLAGS:
        _add_flag(check, name, Settings.model_fields[name])


def _add_flag(parser: argparse.ArgumentParser, name: str, info: FieldInfo) -> None:
    flag = "--" + name.replace("_", "-")
    text = f"{info.description} {_default_of(info)}".replace("%", "%%")
    if info.annotation is bool:
        action: Any = argparse.BooleanOptionalAction
        parser.add_argument(flag, action=action, default=argparse.SUPPRESS, help=text)
    elif name == "api_key":
        parser.add_argument(
            flag, action="append", default=argparse.SUPPRESS, metavar="TEXT", help=text
        )
    else:
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        metavar = "{" + ",".join(choices) + "}" if choices else "VALUE"
        parser.add_argument(flag, default=argparse.SUPPRESS, metavar=metavar, help=text)


def _default_of(info: FieldInfo) -> str:
    if info.is_required():
        return "[required]"
    if info.default in (None, ()):
        return "[default: not set]"
    is_size = isinstance(info.default, ByteSize)
    return f"[default: {info.default.human_readable() if is_size else info.default}]"
