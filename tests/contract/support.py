"""The table of kinds and architectures, `KINDS.md`: measured, written and read again here.

`python -m tests.contract.support` measures all of it and writes the file (`make support-table`).
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.contract.variants import EVERY, peft_type_of

FILE = Path(__file__).parents[2] / "service" / "compiler" / "KINDS.md"

Outcome = Literal["terms", "layer", "refused", "absent"]
SYMBOLS: dict[Outcome, str] = {"terms": "●", "layer": "○", "refused": "✗", "absent": "-"}
_HEAD = """\
# Kinds of adapters, by architecture

Made by `make support-table`; `make test` and `make test-kinds` fail where it is not true.

Rows are adapters that `peft` {version} makes: every `peft_type` that it knows, and the ways to ask
for it that make a difference (fields: `tests/contract/kind_variants.py` and `lora_variants.py`).
Columns are bases (`tests/contract/architectures.py`).

| | |
|---|---|
| {terms} | exact, as terms of the operator: fast |
| {layer} | exact, through peft's own layer: another pass over a weight for each in a step |
| {refused} | refused when it is uploaded, with the reason in the note |
| {absent} | not in `peft`: it cannot make or run such an adapter there; the note is what it says |

Exact: all of a column in one mixed batch, each sequence's logits within 1e-4 of `peft` alone in
float32 (`tests/contract/test_mixed_batch.py`).

"""


@dataclass(frozen=True)
class Cell:
    outcome: Outcome
    reason: str = ""
    """Of a refusal, the compiler's own words; of an absence, peft's."""


Column = Mapping[str, Cell]
"""By variant."""


def spoken(error: Exception) -> str:
    """The first sentence of peft's message, without what differs from run to run."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"0x[0-9a-f]+|/\S*/", "…", text)
    return re.split(r"(?<=[a-z)\]'`])\. ", text)[0][:200].rstrip(".") + "."


def render(columns: Mapping[str, Column], version: str) -> str:
    notes: dict[str, int] = {}
    lines = [
        f"| kind | adapter | {' | '.join(columns)} |",
        "|---|---|" + ":-:|" * len(columns),
    ]
    for name in _ordered():
        cells = [_written(column[name], notes) for column in columns.values()]
        lines.append(f"| {peft_type_of(name)} | `{name}` | {' | '.join(cells)} |")
    lines += ["", *(f"[^{number}]: {reason}" for reason, number in notes.items())]
    return _HEAD.format(version=version, **SYMBOLS) + "\n".join(lines) + "\n"


def _ordered() -> list[str]:
    """LoRA first, then by the names of the kinds; variants in the order of their tables."""
    return sorted(EVERY, key=lambda name: (peft_type_of(name) != "LORA", peft_type_of(name)))


def _written(cell: Cell, notes: dict[str, int]) -> str:
    symbol = SYMBOLS[cell.outcome]
    if not cell.reason:
        return symbol
    return f"{symbol}[^{notes.setdefault(cell.reason, len(notes) + 1)}]"


def read(text: str) -> dict[str, dict[str, Cell]]:
    """By architecture and variant: what `render` was given."""
    notes = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, re.MULTILINE))
    outcomes = {symbol: outcome for outcome, symbol in SYMBOLS.items()}
    rows = [
        [one.strip() for one in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| kind |") or re.match(r"\| [A-Z0-9_]+ \| `", line)
    ]
    columns: dict[str, dict[str, Cell]] = {name: {} for name in rows[0][2:]}
    for _, name, *cells in rows[1:]:
        for architecture, cell in zip(columns, cells, strict=True):
            note = re.search(r"\[\^(\d+)\]", cell)
            reason = notes[note[1]] if note else ""
            columns[architecture][name.strip("`")] = Cell(outcomes[cell[0]], reason)
    return columns


def main() -> None:
    import peft

    from tests.contract.architectures import ARCHITECTURES
    from tests.contract.bench import make_bench

    columns: dict[str, Column] = {}
    for name in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            columns[name] = make_bench(name, "cpu", Path(folder), EVERY).cells
    FILE.write_text(render(columns, peft.__version__))


if __name__ == "__main__":
    main()
