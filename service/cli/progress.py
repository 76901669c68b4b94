"""What is shown while somebody waits: on stderr, and only to a person at a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from service.client.results.imports import Import
    from service.client.upload import Progress


@contextmanager
def sending(name: str) -> Iterator["Progress | None"]:
    """A bar while bytes are sent, then a word that the server checks them."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bar() as bar:
        sent = bar.add_task(f"sending {name}", total=None)
        checked = bar.add_task(f"checking {name}", total=None, visible=False)

        def show(num_sent: int, num_bytes: int) -> None:
            is_over = num_sent >= num_bytes
            bar.update(sent, completed=num_sent, total=num_bytes, visible=not is_over)
            bar.update(checked, completed=num_sent, visible=is_over)

        yield show


@contextmanager
def fetching(name: str) -> Iterator["Callable[[Import], None] | None"]:
    """A bar of what the server has fetched, beside the state that the import is in."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bar() as bar:
        fetched = bar.add_task(f"waiting {name}", total=None)

        def show(one: "Import") -> None:
            text = f"{one.state} {name}"
            bar.update(fetched, completed=one.bytes, total=one.total_bytes, description=text)

        yield show


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    with console.status(text):
        yield
