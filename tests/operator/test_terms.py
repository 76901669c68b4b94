"""Every term against its formula, written out for one row; alone, and all of them together."""

from collections.abc import Callable

import pytest
import torch

from service.operator.terms import INDICES, TERM_NAMES, VECTORS, Terms

IN, OUT, ROWS, RANK, BLOCK, VOCABULARY = 12, 8, 5, 3, 4, 20
GROUPS = (
    ("a", "b"),
    ("a", "b", "inner"),
    ("a", "b", "outer"),
    ("a", "b", "inner", "outer"),
    ("c",),
    ("c", "turn", "partner"),
    ("d",),
    ("scale",),
    ("rotation",),
    ("mix_a", "mix_b"),
    ("kron_left", "kron_right"),
    ("columns", "column_weight"),
    ("task_a", "task_b"),
)
TASK = 2
EVERYTHING = tuple(sorted({name for group in GROUPS for name in group}))


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    return {
        "a": normal(RANK, IN),
        "b": normal(OUT, RANK),
        "inner": normal(RANK),
        "outer": normal(OUT),
        "c": normal(OUT),
        "d": normal(OUT),
        "scale": normal(IN),
        "rotation": normal(IN // BLOCK, BLOCK, BLOCK),
        "mix_a": normal(2, IN),
        "mix_b": normal(IN, 2),
        "turn": normal(OUT),
        "partner": torch.tensor([1, 0, 3, 2, 6, 7, 4, 5]),
        "kron_left": normal(2, 3),
        "kron_right": normal(4, 4),
        "columns": torch.tensor([6, 1]),
        "column_weight": normal(2, IN),
        "task_a": normal(4, RANK, IN),
        "task_b": normal(4, OUT, RANK),
    }


def chosen(names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: one for name, one in tensors().items() if name in names}


Base = Callable[[torch.Tensor], torch.Tensor]


def expected_row(t: dict[str, torch.Tensor], base: Base, x: torch.Tensor) -> torch.Tensor:
    """`y = c * base(T(x)) + turn * base(T(x))[partner] + (x A^T) B^T + f(x) + d` for one `x`."""
    seen = x * t["scale"] if "scale" in t else x
    if "rotation" in t:
        blocks = [seen[i * BLOCK :][:BLOCK] @ block for i, block in enumerate(t["rotation"])]
        seen = torch.cat(blocks)
    if "mix_a" in t:
        seen = seen + t["mix_b"] @ (t["mix_a"] @ seen)
    y = base(seen)
    if "turn" in t:
        y = t["c"] * y + t["turn"] * torch.stack([y[j] for j in t["partner"].tolist()])
    elif "c" in t:
        y = t["c"] * y
    if "a" in t:
        inner, outer = t.get("inner", torch.ones(RANK)), t.get("outer", torch.ones(OUT))
        y = y + outer * (t["b"] @ (inner * (t["a"] @ x)))
    if "task_a" in t:
        y = y + t["task_b"][TASK] @ (t["task_a"][TASK] @ x)
    if "kron_left" in t:
        y = y + torch.kron(t["kron_left"], t["kron_right"]) @ x
    if "d" in t:
        y = y + t["d"]
    for place, column in enumerate(t.get("columns", torch.tensor([])).tolist()):
        y[column] = t["column_weight"][place] @ x
    return y


def apply(terms: Terms, base: Base, x: torch.Tensor) -> torch.Tensor:
    y = base(terms.transform(x)).clone()
    terms.add_to(y, x, TASK)
    return y


@pytest.fixture
def base() -> Base:
    torch.manual_seed(1)
    return torch.nn.Linear(IN, OUT).requires_grad_(False)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, IN, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("names", [*GROUPS, EVERYTHING], ids="-".join)
def test_terms_are_their_formula(base: Base, x: torch.Tensor, names: tuple[str, ...]) -> None:
    t = chosen(names)
    before = x.clone()
    actual = apply(Terms(**t), base, x)
    expected = torch.stack([expected_row(t, base, row) for row in x])
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)
    assert (actual - base(x)).abs().max() > 0.1
    assert torch.equal(x, before), "the rows may be another adapter's input too"


def test_every_term_is_among_the_cases() -> None:
    at_embeddings = {"rows", "row_values", "prompt"}
    assert set(EVERYTHING) | at_embeddings == TERM_NAMES


def test_one_rotation_may_stand_for_all_blocks(base: Base, x: torch.Tensor) -> None:
    one = tensors()["rotation"][:1]
    shared = apply(Terms(rotation=one), base, x)
    repeated = apply(Terms(rotation=one.expand(IN // BLOCK, -1, -1)), base, x)
    torch.testing.assert_close(shared, repeated)


def test_no_terms_change_nothing(base: Base, x: torch.Tensor) -> None:
    assert torch.equal(apply(Terms(), base, x), base(x))
    assert not Terms(**chosen(("a", "b", "c", "d"))).has_transform


@pytest.mark.parametrize("names", [*GROUPS, EVERYTHING], ids="-".join)
def test_rows_do_not_see_each_other(base: Base, x: torch.Tensor, names: tuple[str, ...]) -> None:
    terms = Terms(**chosen(names))
    alone = torch.cat([apply(terms, base, row[None]) for row in x])
    torch.testing.assert_close(apply(terms, base, x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("names", [*GROUPS, EVERYTHING], ids="-".join)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_floats_stay_small(
    base: torch.nn.Linear, x: torch.Tensor, names: tuple[str, ...], dtype: torch.dtype
) -> None:
    """Matrices are in the run dtype, vectors in float32, and the result in the run dtype."""
    t = chosen(names)
    small = {
        name: one if name in VECTORS or name in INDICES else one.to(dtype)
        for name, one in t.items()
    }
    exact = torch.stack([expected_row(t, base, row) for row in x])
    actual = apply(Terms(**small), base.to(dtype), x.to(dtype))
    assert actual.dtype is dtype
    assert (actual.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_embeddings_are_scaled_moved_and_replaced() -> None:
    draw = torch.Generator().manual_seed(4)
    table = torch.randn(VOCABULARY, OUT, generator=draw)
    t = {
        "a": torch.randn(RANK, VOCABULARY, generator=draw),
        "b": torch.randn(OUT, RANK, generator=draw),
        "c": torch.randn(OUT, generator=draw),
        "rows": torch.tensor([7, 2]),
        "row_values": torch.randn(2, OUT, generator=draw),
    }
    ids = torch.tensor([2, 3, 7, 2, 19])
    for names in (("a", "b"), ("c",), ("a", "b", "c"), ("rows", "row_values"), tuple(t)):
        here = {name: t[name] for name in names}
        actual = table[ids].clone()
        Terms(**here).add_to_embeddings(actual, ids)
        for row, token in enumerate(ids.tolist()):
            expected = table[token] * here.get("c", torch.ones(OUT))
            if "a" in here:
                expected = expected + t["b"] @ t["a"][:, token]
            if "rows" in here and token in (7, 2):
                expected = t["row_values"][[7, 2].index(token)]
            torch.testing.assert_close(actual[row], expected, atol=1e-5, rtol=1e-5)
