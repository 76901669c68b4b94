"""`usage`: what was used, by whom and of what."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from service.cli.arguments import add_days
from service.cli.command import Command, Output
from service.cli.render import size, table

if TYPE_CHECKING:
    from service.client import Client
    from service.client.results.reports import UsageRecord

_DIMENSIONS = ("day", "tenant", "adapter", "version")
_COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens")


def _usage(client: "Client", options: Namespace) -> Output:
    groups = [one for one in _DIMENSIONS if one in (options.by or ["tenant"])]
    if "version" in groups and "adapter" not in groups:
        groups.insert(-1, "adapter")
    records = list(
        client.usage(first=options.first, last=options.last, group_by=groups, tenant=options.tenant)
    )
    columns = [one.upper() for one in groups]
    columns += [f"{one.upper().replace('_', ' ')}#" for one in _COUNTS] + ["LOADED#"]
    rows = [(*(getattr(one, group) for group in groups), *_numbers([one])) for one in records]
    if len(rows) > 1:
        rows.append(("total", *([" "] * (len(groups) - 1)), *_numbers(records)))
    return Output(records, [table(columns, rows)])


def _numbers(records: "list[UsageRecord]") -> tuple[object, ...]:
    counts = (sum(getattr(one, name) for one in records) for name in _COUNTS)
    return *counts, size(sum(one.loaded_bytes for one in records))


def _add_usage(parser: ArgumentParser) -> None:
    add_days(parser)
    parser.add_argument(
        "--by",
        action="append",
        choices=_DIMENSIONS,
        help="what is told apart; repeatable [default: tenant]",
    )
    parser.add_argument("--tenant", help="only this one's; by default all that the key may see")


COMMAND = Command("usage", "requests, tokens and loaded bytes", _usage, _add_usage)
