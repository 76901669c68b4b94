"""A command of operators as data: its arguments, what it asks of the server, what it shows."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client


@dataclass(frozen=True, slots=True)
class Output:
    data: Any
    """For `--json`: a result of the client, or a list of them."""
    text: Iterable["RenderableType"]
    """For people."""
    is_fine: bool = True
    """False when the answer itself is bad news."""


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    help: str
    run: Callable[["Client", Namespace], Output]
    add_arguments: Callable[[ArgumentParser], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Operation:
    """A command line that asks a running server for something."""

    run: Callable[["Client", Namespace], Output]
    options: Namespace
    url: str | None
    key: str | None
    is_json: bool


Commands = Sequence[Command]
