"""`keys …`: made, listed, revoked."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from service.cli.arguments import duration
from service.cli.command import Command, Output
from service.cli.render import facts, moment, table
from service.tenancy import Role

if TYPE_CHECKING:
    from service.client import Client


def _create(client: "Client", options: Namespace) -> Output:
    key = client.keys.create(
        options.role,
        tenant=options.tenant,
        label=options.label,
        expires_in_s=options.expires_in,
        min_priority=options.min_priority,
    )
    about = {
        "secret": key.secret,
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "label": key.label,
        "expires": _expiry(key.expires_at),
    }
    return Output(key, ["The secret is shown this once:", facts(about)])


def _list(client: "Client", options: Namespace) -> Output:
    keys = list(client.keys.list(tenant=options.tenant))
    columns = ("ID", "TENANT", "ROLE", "LABEL", "ENDING", "CREATED", "EXPIRES", "PRIORITY#")
    rows = (
        (
            one.id,
            one.tenant,
            one.role,
            one.label,
            f"…{one.ending}",
            moment(one.created_at),
            "expired" if one.expired else _expiry(one.expires_at),
            one.min_priority,
        )
        for one in keys
    )
    return Output(keys, [table(columns, rows)])


def _revoke(client: "Client", options: Namespace) -> Output:
    gone = client.keys.revoke(options.id)
    return Output(gone, [f"{gone.id} is revoked"])


def _expiry(expires_at: int | None) -> str:
    return "never" if expires_at is None else moment(expires_at)


def _add_create(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        required=True,
        choices=[role.value for role in Role],
        help="each includes those before it",
    )
    _add_tenant(parser)
    parser.add_argument("--label", default="", help="whose it is, what it is for")
    parser.add_argument(
        "--expires-in", type=duration, metavar="90d", help="by default it never expires"
    )
    parser.add_argument(
        "--min-priority",
        type=int,
        metavar="NUMBER",
        help="the most urgent `priority` that it allows; lower is more urgent",
    )


def _add_tenant(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", help="by default that of the key that asks")


def _add_id(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="as `keys list` shows it")


COMMANDS = (
    Command("create", "make a key", _create, _add_create),
    Command("list", "keys that are not revoked", _list, _add_tenant),
    Command("revoke", "revoke a key at once", _revoke, _add_id),
)
