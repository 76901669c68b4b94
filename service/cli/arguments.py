"""Arguments that several commands have."""

import argparse
import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")


def add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME, or TENANT/NAME")


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME or NAME@VERSION, or TENANT/ before either")


def add_condition(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", metavar="ETAG", help="only if the adapter still is as `show` gave it"
    )


def add_visibility(parser: "argparse._MutuallyExclusiveGroup") -> None:
    for name, text in (("private", "its owner alone may use it"), ("public", "everybody may")):
        parser.add_argument(
            f"--{name}", dest="visibility", action="store_const", const=name, help=text
        )


def add_publishing(parser: ArgumentParser) -> None:
    """Of whatever publishes an adapter."""
    parser.add_argument("--name", required=True, help="name to publish under")
    parser.add_argument(
        "--convert", choices=("lora",), help="approximate another kind by a LoRA of --rank"
    )
    parser.add_argument("--rank", type=int, help="rank of that LoRA")
    add_visibility(parser.add_mutually_exclusive_group())
    parser.add_argument(
        "--ttl", type=duration, metavar="7d", help="after which the name is deleted by itself"
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


def duration(text: str) -> int:
    """Seconds of `90d`, `12h`, `30m` or `60s`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no duration like 90d, 12h, 30m or 60s")
    return int(found[1]) * _SECONDS[found[2]]
