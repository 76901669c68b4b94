"""`adapters …`: publish, look at and change."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.command import Command, Output
from service.cli.progress import sending, waiting
from service.cli.render import facts, moment, short, size, table
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client
    from service.client.results import Adapter, Check, Conversion


def _push(client: "Client", options: Namespace) -> Output:
    with sending(options.name) as on_progress:
        made = client.adapters.push(
            options.name,
            options.source,
            convert=options.convert,
            rank=options.rank,
            on_progress=on_progress,
        )
    is_what = "is now" if made.created else "already was"
    details = {
        "digest": made.digest,
        "kind": made.kind,
        "rank": made.rank,
        "targets": made.targets,
        "bytes": size(made.bytes),
        "check": _check(made.check),
        "conversion": _conversion(made.conversion),
        "warnings": made.warnings,
        "unused files": made.unused_files,
    }
    return Output(made, [f"{made.name} {is_what} version {made.version}", facts(details)])


def _list(client: "Client", _: Namespace) -> Output:
    adapters = list(client.adapters.list())
    columns = ("NAME", "VERSION#", "KIND", "RANK#", "SIZE#", "TIER", "STATE", "ALIASES")
    return Output(adapters, [table(columns, map(_row, adapters))])


def _row(adapter: "Adapter") -> tuple[object, ...]:
    now = adapter.current
    about = (now.version, now.kind, now.rank, size(now.bytes), now.tier) if now else (None,) * 5
    return adapter.name, *about, adapter.state, _aliases(adapter)


def _show(client: "Client", options: Namespace) -> Output:
    return _shown(client.adapters.get(options.name))


def _shown(adapter: "Adapter") -> Output:
    return Output(adapter, _details(adapter))


def _details(adapter: "Adapter") -> Iterator["RenderableType"]:
    now = adapter.current
    yield f"{adapter.name} is at version {now.version}" if now else f"{adapter.name} is not served"
    about = {
        "state": adapter.state,
        "aliases": _aliases(adapter),
        "etag": adapter.etag,
    }
    if now is not None:
        about |= {
            "digest": now.digest,
            "kind": now.kind,
            "targets": ", ".join(now.targets),
            "check": _check(now.check),
            "conversion": _conversion(now.conversion),
            "warnings": "; ".join(now.warnings),
        }
    yield facts(about)
    for reason in adapter.reasons:
        yield f"  {reason.code} ({reason.subject}): {reason.message}"
    if adapter.versions:
        columns = ("VERSION#", "", "DIGEST", "CREATED", "KIND", "RANK#", "SIZE#", "TIER", "FORM")
        rows = (
            (
                one.version,
                "current" if one.current else " ",
                short(one.digest),
                moment(one.created_at),
                one.kind,
                one.rank,
                size(one.bytes),
                one.tier,
                one.form,
            )
            for one in adapter.versions
        )
        yield table(columns, rows)


def _alias(client: "Client", options: Namespace) -> Output:
    moved = client.adapters.move(
        options.name,
        dict(map(_target, options.aliases)),
        current=options.current,
        if_match=options.if_match,
    )
    return _shown(moved)


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


def _rollback(client: "Client", options: Namespace) -> Output:
    return _shown(client.adapters.rollback(options.name, if_match=options.if_match))


def _remove(client: "Client", options: Namespace) -> Output:
    gone = client.adapters.delete(options.name)
    return Output(gone, [f"{options.name} is deleted"])


def _verify(client: "Client", options: Namespace) -> Output:
    with waiting(f"comparing {options.name} with peft"):
        found = client.adapters.verify(options.name)
    text = f"{found.name}@{found.version}: {_check(found)}"
    return Output(found, [text], is_fine=found.verdict == "exact")


def _check(check: "Check | None") -> str:
    if check is None:
        return ""
    largest = check.max_logit_difference
    shown = "not a number" if largest is None else f"{largest:.2g}"
    return (
        f"{check.verdict}, logits differ by {shown} where {check.tolerance:.2g} is allowed "
        f"({check.dtype}, {check.positions} positions)"
    )


def _conversion(conversion: "Conversion | None") -> str:
    if conversion is None:
        return ""
    return (
        f"of {conversion.kind} to rank {conversion.rank}: largest error of a module "
        f"{conversion.max_error:.2g}, mean KL {conversion.mean_kl:.2g}"
    )


def _aliases(adapter: "Adapter") -> str:
    return ", ".join(f"{alias}={_shares(target)}" for alias, target in adapter.aliases.items())


def _shares(target: Any) -> str:
    if isinstance(target, Mapping):
        return "/".join(f"{number}:{weight}" for number, weight in target.items())
    return str(target)


def _add_push(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="FOLDER", help="PEFT folder, or a .zip or .tar.gz of one"
    )
    parser.add_argument("--name", required=True, help="name to publish under")
    parser.add_argument(
        "--convert", choices=("lora",), help="approximate another kind by a LoRA of --rank"
    )
    parser.add_argument("--rank", type=int, help="rank of that LoRA")


def _add_alias(parser: ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "aliases",
        nargs="*",
        metavar="ALIAS=VERSION",
        help="also ALIAS=3:95,4:5 to split traffic, ALIAS= to remove it",
    )
    parser.add_argument("--current", type=int, help="version that the bare name leads to")
    _add_condition(parser)


def _add_rollback(parser: ArgumentParser) -> None:
    _add_name(parser)
    _add_condition(parser)


def _add_condition(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", metavar="ETAG", help="only if the adapter still is as `show` gave it"
    )


def _add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name")


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME, or NAME@VERSION")


COMMANDS = (
    Command("push", "publish an adapter", _push, _add_push),
    Command("list", "all adapters", _list),
    Command("show", "one adapter with its versions", _show, _add_name),
    Command("alias", "move aliases and the current version, together", _alias, _add_alias),
    Command("rollback", "back to the version before", _rollback, _add_rollback),
    Command("rm", "delete an adapter with all its versions", _remove, _add_name),
    Command("verify", "compare a version, as served now, with peft", _verify, _add_model),
)
