"""`imports …`, and `adapters import`: the server fetches an adapter itself."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from service.cli.arguments import add_publishing
from service.cli.command import Command, Output
from service.cli.progress import fetching
from service.cli.render import facts, moment, size, table

if TYPE_CHECKING:
    from service.client import Client
    from service.client.results.imports import Import


def _import(client: "Client", options: Namespace) -> Output:
    begun = client.imports.begin(
        options.name,
        options.source,
        convert=options.convert,
        rank=options.rank,
        ttl_s=options.ttl,
        visibility=options.visibility,
    )
    if options.no_wait:
        return _shown(begun)
    with fetching(options.name) as on_progress:
        return _shown(client.imports.wait(begun.id, on_progress=on_progress))


def _list(client: "Client", options: Namespace) -> Output:
    imports = list(client.imports.list(tenant=options.tenant))
    columns = ("ID", "NAME", "STATE", "FETCHED#", "BEGUN", "SOURCE")
    rows = (
        (one.id, one.name, one.state, _fetched(one), moment(one.created_at), one.source)
        for one in imports
    )
    return Output(imports, [table(columns, rows)])


def _show(client: "Client", options: Namespace) -> Output:
    return _shown(client.imports.get(options.id))


def _stop(client: "Client", options: Namespace) -> Output:
    stopped = client.imports.stop(options.id)
    return Output(stopped, _shown(stopped).text)


def _shown(one: "Import") -> Output:
    made = one.result
    about = {
        "id": one.id,
        "source": one.source,
        "revision": one.revision,
        "fetched": _fetched(one),
        "digest": made.digest if made else "",
        "warnings": made.warnings if made else (),
        "unused files": made.unused_files if made else (),
        "error": f"{one.error.code}: {one.error.message}" if one.error else "",
    }
    reasons = one.error.reasons if one.error else ()
    lines = [f"  {reason.code} ({reason.subject}): {reason.message}" for reason in reasons]
    return Output(one, [_headline(one), facts(about), *lines], is_fine=one.error is None)


def _headline(one: "Import") -> str:
    if one.result is not None:
        is_what = "is now" if one.result.created else "already was"
        return f"{one.name} {is_what} version {one.result.version}"
    return f"{one.name}: the import {'has ' if one.state == 'failed' else 'is '}{one.state}"


def _fetched(one: "Import") -> str:
    total = "" if one.total_bytes in (None, one.bytes) else f" of {size(one.total_bytes or 0)}"
    return f"{size(one.bytes)}{total}"


def _add_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="hf://org/repo@revision, s3://bucket/prefix, https://host/archive, or a path of the"
        " server; as far as its operator allows it",
    )
    add_publishing(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="do not wait; `imports show` says how it goes"
    )


def _add_tenant(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", help="whose; by default of the key that asks")


def _add_id(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="as `imports list` shows it")


IMPORT = Command("import", "let the server fetch an adapter and publish it", _import, _add_import)
COMMANDS = (
    Command("list", "those that run or have lately ended", _list, _add_tenant),
    Command("show", "how one goes, or how it has ended", _show, _add_id),
    Command("stop", "stop one while it is fetched", _stop, _add_id),
)
