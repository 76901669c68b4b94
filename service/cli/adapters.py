"""`adapters …`: publish and look at."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli import changes, imports
from service.cli.adapter_views import checked, converted, listed, shown
from service.cli.arguments import add_model, add_name, add_publishing
from service.cli.command import Command, Output
from service.cli.progress import sending, waiting
from service.cli.render import facts, size

if TYPE_CHECKING:
    from service.client import Client


def _push(client: "Client", options: Namespace) -> Output:
    with sending(options.name) as on_progress:
        made = client.adapters.push(
            options.name,
            options.source,
            convert=options.convert,
            rank=options.rank,
            ttl_s=options.ttl,
            visibility=options.visibility,
            on_progress=on_progress,
        )
    is_what = "is now" if made.created else "already was"
    details = {
        "digest": made.digest,
        "kind": made.kind,
        "rank": made.rank,
        "targets": made.targets,
        "bytes": size(made.bytes),
        "check": checked(made.check),
        "conversion": converted(made.conversion),
        "warnings": made.warnings,
        "unused files": made.unused_files,
    }
    return Output(made, [f"{made.name} {is_what} version {made.version}", facts(details)])


def _list(client: "Client", options: Namespace) -> Output:
    adapters = list(client.adapters.list(tenant=options.tenant, deleted=options.deleted))
    return Output(adapters, [listed(adapters)])


def _show(client: "Client", options: Namespace) -> Output:
    return shown(client.adapters.get(options.name))


def _verify(client: "Client", options: Namespace) -> Output:
    with waiting(f"comparing {options.name} with peft"):
        found = client.adapters.verify(options.name)
    text = f"{found.name}@{found.version}: {checked(found)}"
    return Output(found, [text], is_fine=found.verdict == "exact")


def _warm(client: "Client", options: Namespace) -> Output:
    timeout_ms = None if options.timeout is None else round(1000 * options.timeout)
    with waiting(f"loading {options.name}"):
        warmed = client.adapters.warm(options.name, tier=options.tier, timeout_ms=timeout_ms)
    where = "on the device" if warmed.tier == "device" else "in host memory"
    text = f"{warmed.name}@{warmed.version} is {where} after {warmed.milliseconds:.0f} ms"
    return Output(warmed, [text])


def _add_push(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="FOLDER", help="PEFT folder, or a .zip or .tar.gz of one"
    )
    add_publishing(parser)


def _add_list(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--deleted", action="store_true", help="those that are deleted and can be restored"
    )
    parser.add_argument("--tenant", help="whose; by default of the key that asks")


def _add_warm(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--tier", choices=("host", "device"), default="host", help="which memory [default: host]"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="how long to wait; the load goes on"
    )


COMMANDS = (
    Command("push", "publish an adapter", _push, _add_push),
    imports.IMPORT,
    Command("list", "all adapters", _list, _add_list),
    Command("show", "one adapter with its versions", _show, add_name),
    Command("verify", "compare a version, as served now, with peft", _verify, add_model),
    Command("warm", "bring a version into memory before anybody waits", _warm, _add_warm),
    *changes.COMMANDS,
)
