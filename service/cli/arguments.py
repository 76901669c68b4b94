"""Arguments that several commands have."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date


def add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME, or TENANT/NAME")


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME or NAME@VERSION, or TENANT/ before either")


def add_condition(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", metavar="ETAG", help="only if the adapter still is as `show` gave it"
    )


def add_days(parser: ArgumentParser) -> None:
    for flag, name, text in (
        ("--from", "first", "first day, UTC; by default six days before the last"),
        ("--to", "last", "last day, UTC; by default today"),
    ):
        parser.add_argument(flag, dest=name, type=_day, metavar="YYYY-MM-DD", help=text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day like 2026-03-05") from None
