"""How results look to people. What the server says is text and nothing else: no markup, no
control characters that could change a terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_WIDE = 10_000
"""Characters of a line that is read by another program: nothing is folded."""
_NOTHING = "-"


def print_text(parts: Iterable[RenderableType]) -> None:
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    for part in parts:
        if isinstance(part, str):
            part = Text(clean(part))
        with console.capture() as captured:
            console.print(part)
        # Cells are filled up with spaces, the last one of a line too.
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Columns whose name ends in `#` are numbers and stand at the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        name = column.removesuffix("#")
        justify = "left" if name == column else "right"
        shown.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        shown.add_row(*(Text(clean(value(cell))) for cell in row))
    return shown


def facts(pairs: Mapping[str, object]) -> Table:
    """Names and values below each other, without those that say nothing."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, cell in pairs.items():
        if cell not in (None, "", (), []):
            shown.add_row(Text(f"  {name:<14}"), Text(clean(value(cell))))
    return shown


def value(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Mapping):
        known = {name: one for name, one in cell.items() if one is not None}
        return ", ".join(f"{name} {value(one)}" for name, one in known.items()) or _NOTHING
    if isinstance(cell, tuple | list):
        return ", ".join(value(one) for one in cell)
    return _NOTHING if cell is None or cell == "" else str(cell)


def clean(text: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def moment(seconds: float | None) -> str:
    """Of Unix seconds."""
    if seconds is None:
        return _NOTHING
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short(digest: str) -> str:
    """Enough of a digest to ask for it as `name@sha256:…`."""
    return digest[: len("sha256:") + 12]
