"""`KINDS.md` says the truth, all of it."""

import peft
import pytest

from service.compiler.kinds.kind import KINDS
from tests.contract import support
from tests.contract.architectures import ARCHITECTURES
from tests.contract.bench import Bench
from tests.contract.support import FILE, Cell, spoken
from tests.contract.variants import ALL, EVERY, PEFT_TYPES, fast_variants, peft_type_of

TABLE = support.read(FILE.read_text())


def test_every_cell_is_what_becomes_of_the_adapter(bench: Bench) -> None:
    listed = TABLE[bench.architecture]
    wrong = {
        name: (cell, listed[name]) for name, cell in bench.cells.items() if cell != listed[name]
    }
    assert not wrong, f"{wrong}\nmake support-table"


def test_the_table_has_every_kind_that_peft_knows_on_every_architecture() -> None:
    assert list(TABLE) == list(ARCHITECTURES)
    for column in TABLE.values():
        assert column.keys() == set(EVERY)
    assert {peft_type_of(name) for name in EVERY} == set(PEFT_TYPES) == KINDS
    assert FILE.read_text() == support.render(TABLE, peft.__version__)


def test_whatever_is_not_served_has_a_reason() -> None:
    for column in TABLE.values():
        for cell in column.values():
            assert bool(cell.reason) == (cell.outcome in ("refused", "absent"))


def test_every_kind_that_is_served_anywhere_is_served_on_most() -> None:
    """A table full of refusals would be as true."""
    for name in ALL:
        outcomes = [column[name].outcome for column in TABLE.values()]
        assert outcomes.count("refused") in (*range(4), len(outcomes)), name


def test_the_fast_run_shows_every_variant_on_several_architectures() -> None:
    shown = [name for architecture in ARCHITECTURES for name in fast_variants(architecture)]
    assert all(shown.count(name) >= 4 for name in EVERY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Target module X(nf=1) is not supported. Only Y is.",
            "Target module X(nf=1) is not supported.",
        ),
        ("no '/tmp/a/b/c.json' at 0x7f00", "no '…c.json' at …."),
        ("", "ValueError."),
    ],
)
def test_what_peft_says_is_the_same_in_every_run(text: str, expected: str) -> None:
    assert spoken(ValueError(text)) == expected


def test_a_table_is_read_as_it_was_written() -> None:
    cells = [Cell("terms"), Cell("layer"), Cell("refused", "no | pipe"), Cell("absent", "b [1]")]
    columns = {
        one: {name: cells[(n + k) % 4] for n, name in enumerate(EVERY)}
        for k, one in enumerate(("a", "b"))
    }
    assert support.read(support.render(columns, "1")) == columns
