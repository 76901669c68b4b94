"""The command line: one parser, of which only the command that is asked for is filled in.

What the others need would be imported for nothing, and the command line is to start fast.
"""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Union

from service.cli.command import Command, Commands, Operation
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from service.command_line import Arguments

_COMMANDS = {
    "serve": "start the server",
    "check": "say whether an adapter would be accepted",
    "gc": "free what is deleted, in a store that no server runs on",
    "rebuild": "let Redis know again what the store of a fleet says",
    "status": "what a running server is, and whether it takes requests",
    "adapters": "its adapters: publish, look at, change",
    "imports": "adapters that it fetches itself: how that goes, stop it",
    "keys": "its API keys: make, list, revoke",
    "usage": "who used how much of it",
    "audit": "who changed what on it",
    "tenants": "who shares it: make, list, limit",
}
_LOCAL = frozenset({"serve", "check", "gc", "rebuild"})
"""Those that run here and not against a server."""
_STATUSES = (
    "Exit status: 0 = done, 1 = the server refused it or failed, "
    "2 = a wrong command line, or no answer."
)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def parse_command_line(
    arguments: Sequence[str],
) -> Union["Arguments", Operation]:
    """The settings of `serve [--flag value …]`, completed from the environment, or what else
    is asked for.

    Raises `ConfigurationError` with one sentence; `--help` prints and exits.
    """
    parser = _Parser(prog="python -m service", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        if [name] == list(arguments[:1]):
            _fill(name, command)
    given = parser.parse_args(arguments)
    name = given.command
    del given.command
    if name in _LOCAL:
        from service import command_line

        return command_line.settle(name, vars(given))
    return _operation(given)


def _fill(name: str, parser: ArgumentParser) -> None:
    if name in _LOCAL:
        from service import command_line

        command_line.add_flags(name, parser)
        return
    commands = _operations(name)
    if isinstance(commands, Command):
        _add_command(parser, commands)
        return
    children = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        child = children.add_parser(command.name, help=command.help, allow_abbrev=False)
        _add_command(child, command)


def _operations(name: str) -> Command | Commands:
    match name:
        case "status":
            from service.cli import status

            return status.COMMAND
        case "imports":
            from service.cli import imports

            return imports.COMMANDS
        case "keys":
            from service.cli import keys

            return keys.COMMANDS
        case "tenants":
            from service.cli import tenants

            return tenants.COMMANDS
        case "usage":
            from service.cli import usage

            return usage.COMMAND
        case "audit":
            from service.cli import audit

            return audit.COMMAND
        case _:
            from service.cli import adapters

            return adapters.COMMANDS


def _add_command(parser: ArgumentParser, command: Command) -> None:
    parser.description = f"{command.help[0].upper()}{command.help[1:]}. {_STATUSES}"
    parser.set_defaults(run=command.run)
    command.add_arguments(parser)
    server = parser.add_argument_group("the server")
    server.add_argument(
        "--url",
        help="address of the server [default: REPERTOIRE_CLIENT_URL, or http://127.0.0.1:8000]",
    )
    server.add_argument(
        "--key",
        help="API key; other users of this machine may see it here, so better set "
        "REPERTOIRE_CLIENT_KEY",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _operation(given: Namespace) -> Operation:
    options = vars(given)
    run, url, key, is_json = (options.pop(name) for name in ("run", "url", "key", "json"))
    return Operation(run, argparse.Namespace(**options), url, key, is_json)
