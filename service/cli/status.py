"""`status`: what runs there, and whether it takes requests."""

from argparse import Namespace
from typing import TYPE_CHECKING

from service.cli.command import Command, Output
from service.cli.render import facts

if TYPE_CHECKING:
    from service.client import Client


def _status(client: "Client", _: Namespace) -> Output:
    ready, version = client.ready(), client.version()
    about = version.model_dump()
    shown = version.model_copy(update={"status": ready.status, "reasons": ready.reasons})
    head = f"{version.model} is {ready.status}"
    return Output(shown, [head, *ready.reasons, facts(about)], is_fine=ready.is_ready)


COMMAND = Command("status", "what runs there, and whether it takes requests", _status)
