"""`audit`: who changed what, and when."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.cli.arguments import add_days
from service.cli.command import Command, Output
from service.cli.render import moment, table, value

if TYPE_CHECKING:
    from service.client import Client


def _audit(client: "Client", options: Namespace) -> Output:
    records = list(client.audit(first=options.first, last=options.last, tenant=options.tenant))
    rows = (
        (
            moment(one.at),
            f"{one.actor.tenant}/{one.actor.key}" if one.actor.tenant else one.actor.key,
            one.action,
            one.tenant,
            one.target,
            _change(one.before, one.after),
        )
        for one in records
    )
    columns = ("AT", "BY", "ACTION", "TENANT", "TARGET", "CHANGE")
    return Output(records, [table(columns, rows)])


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`current 1 → 2`: what differs alone."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return "; ".join(
        f"{name} {value(before.get(name))} → {value(after.get(name))}" for name in names
    )


def _add_audit(parser: ArgumentParser) -> None:
    add_days(parser)
    parser.add_argument("--tenant", help="only this one's; by default all that the key may see")


COMMAND = Command("audit", "who changed what, oldest first", _audit, _add_audit)
