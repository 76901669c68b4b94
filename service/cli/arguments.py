"""Arguments that several commands have."""

from argparse import ArgumentParser


def add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name")


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="NAME, or NAME@VERSION")


def add_condition(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", metavar="ETAG", help="only if the adapter still is as `show` gave it"
    )
