"""`adapters …`: what moves, deletes and brings back."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.cli.adapter_views import shown
from service.cli.arguments import add_condition, add_model, add_name, add_visibility, duration
from service.cli.command import Command, Output
from service.cli.progress import waiting
from service.cli.render import facts, size, table
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client


def _alias(client: "Client", options: Namespace) -> Output:
    moved = client.adapters.move(
        options.name,
        dict(map(_target, options.aliases)),
        current=options.current,
        if_match=options.if_match,
    )
    return shown(moved)


def _target(text: str) -> tuple[str, int | Mapping[int, int] | None]:
    """`stable=3`, `canary=3:95,4:5`, and `old=` to remove it."""
    alias, equals, wanted = text.partition("=")
    try:
        if not equals or not alias:
            raise ValueError
        if not wanted:
            return alias, None
        if ":" not in wanted:
            return alias, int(wanted)
        shares = (share.split(":") for share in wanted.split(","))
        return alias, {int(number): int(weight) for number, weight in shares}
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not ALIAS=VERSION, ALIAS=VERSION:WEIGHT,… or ALIAS= to remove it"
        ) from None


def _share(client: "Client", options: Namespace) -> Output:
    visibility = options.visibility or options.tenants.split(",")
    return shown(client.adapters.share(options.name, visibility, if_match=options.if_match))


def _pin(client: "Client", options: Namespace) -> Output:
    return shown(client.adapters.pin(options.name, not options.off, if_match=options.if_match))


def _expire(client: "Client", options: Namespace) -> Output:
    return shown(client.adapters.expire(options.name, options.after, if_match=options.if_match))


def _rollback(client: "Client", options: Namespace) -> Output:
    return shown(client.adapters.rollback(options.name, if_match=options.if_match))


def _remove(client: "Client", options: Namespace) -> Output:
    gone = client.adapters.delete(options.name, if_match=options.if_match)
    which = gone.name if gone.version is None else f"{gone.name}@{gone.version}"
    return Output(gone, [f"{which} is deleted; `restore` brings it back for a while"])


def _restore(client: "Client", options: Namespace) -> Output:
    name, at, number = options.name.partition("@")
    if at and not number.isdecimal():
        raise ConfigurationError(f"{options.name!r} is neither NAME nor NAME@NUMBER")
    version = int(number) if at else None
    return shown(client.adapters.restore(name, version, if_match=options.if_match))


def _collect(client: "Client", options: Namespace) -> Output:
    with waiting("looking for what nobody can restore any more"):
        freed = client.adapters.gc(dry_run=options.dry_run)
    text: list[RenderableType] = [
        f"{len(freed.versions)} versions {'would be' if freed.dry_run else 'are'} gone for good",
        facts(
            {
                "contents": f"{freed.contents}, {size(freed.content_bytes)}",
                "compiled": f"{freed.compiled}, {size(freed.compiled_bytes)}",
            }
        ),
    ]
    if freed.versions:
        rows = ((one.name, one.version, one.digest) for one in freed.versions)
        text.append(table(("NAME", "VERSION#", "DIGEST"), rows))
    return Output(freed, text)


def _add_alias(parser: ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument(
        "aliases",
        nargs="*",
        metavar="ALIAS=VERSION",
        help="also ALIAS=3:95,4:5 to split traffic, ALIAS= to remove it",
    )
    parser.add_argument("--current", type=int, help="version that the bare name leads to")
    add_condition(parser)


def _add_share(parser: ArgumentParser) -> None:
    add_name(parser)
    whom = parser.add_mutually_exclusive_group(required=True)
    add_visibility(whom)
    whom.add_argument("--with", dest="tenants", metavar="TENANT,…", help="these tenants may")
    add_condition(parser)


def _add_pin(parser: ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--off", action="store_true", help="let it leave memory again")
    add_condition(parser)


def _add_expire(parser: ArgumentParser) -> None:
    add_name(parser)
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--after", type=duration, metavar="7d", help="from now on")
    when.add_argument("--never", dest="after", action="store_const", const=None, help="it stays")
    add_condition(parser)


def _add_rollback(parser: ArgumentParser) -> None:
    add_name(parser)
    add_condition(parser)


def _add_remove(parser: ArgumentParser) -> None:
    add_model(parser)
    add_condition(parser)


def _add_restore(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME as it was when it was deleted, or NAME@NUMBER")
    add_condition(parser)


def _add_collect(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be freed")


COMMANDS = (
    Command("alias", "move aliases and the current version, together", _alias, _add_alias),
    Command("share", "say who may use an adapter beside its owner", _share, _add_share),
    Command("pin", "keep an adapter in host memory, used or not", _pin, _add_pin),
    Command("expire", "say when an adapter is deleted by itself", _expire, _add_expire),
    Command("rollback", "back to the version before", _rollback, _add_rollback),
    Command("rm", "delete an adapter, or one version of it", _remove, _add_remove),
    Command("restore", "bring back what was deleted", _restore, _add_restore),
    Command("gc", "free what is deleted and can no longer be restored", _collect, _add_collect),
)
