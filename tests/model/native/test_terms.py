"""The native terms of a site against their torch twin."""

import pytest
import torch

from service.core import NO_SLOT
from service.model.context import StepContext
from service.model.kernels import Kernels
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from service.step import Step
from tests.model.native.library import native_of


def step(row_slot: list[int]) -> Step:
    count = len(row_slot)
    return Step([3] * count, [0] * count, row_slot, [], 0, [], [])


def site_of(native: Kernels | None, linear: torch.nn.Linear) -> tuple[Site, StepContext]:
    context = StepContext(kernels=native)
    return Site("site", linear, "all", context), context


def terms_of(rank: int, num_in: int, num_out: int, dtype: torch.dtype) -> Terms:
    """Every other rank has vectors too."""
    vectors = {name: torch.randn(num_out) for name in ("c", "d") if rank % 2}
    return Terms(
        a=torch.randn(rank, num_in).to(dtype),
        b=(torch.randn(num_out, rank) / rank**0.5).to(dtype),
        **vectors,
    )


def outputs(
    native: Kernels | None, forms: dict[int, Terms], row_slot: list[int], x: torch.Tensor, out: int
) -> torch.Tensor:
    """Of a site in float32."""
    linear = torch.nn.Linear(x.shape[-1], out).to(x.dtype).requires_grad_(False)
    with torch.no_grad():
        linear.weight.copy_(torch.linspace(-1, 1, linear.weight.numel()).view(linear.weight.shape))
        linear.bias.fill_(0.5)
    site, context = site_of(native, linear)
    for slot, terms in forms.items():
        site.set_form(slot, SiteForm(terms))
    context.begin(step(row_slot), [], torch.tensor([]))
    with torch.inference_mode():
        return linear(x)[0].float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_site_computes_the_same_with_and_without_the_kernel(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    forms = {
        0: terms_of(16, 70, 45, dtype),
        2: terms_of(3, 70, 45, dtype),
        7: Terms(c=torch.randn(45), d=torch.randn(45)),
        40: Terms(d=torch.randn(45)),
        41: terms_of(68, 70, 45, dtype),
    }
    row_slot = [0, 0, 2, NO_SLOT, 7, 40, 1, *[2] * 33, *[41] * 32, 0]
    x = torch.randn(1, len(row_slot), 70).to(dtype)
    mine, twin = (outputs(native, forms, row_slot, x, 45) for native in (native_of(dtype), None))
    assert (mine - twin).abs().max() / twin.abs().max() < 4 * torch.finfo(dtype).eps
    assert not torch.equal(twin[0], twin[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_in", "num_out"), [(33, 31), (64, 128), (127, 65), (5, 19)])
def test_runs_of_any_length_and_rank(dtype: torch.dtype, num_in: int, num_out: int) -> None:
    torch.manual_seed(num_in)
    ranks = [*range(1, 18), 24, 31, 32, 33, 48, 63, 64, 65, 128, 129, 200]
    lengths = [1, 2, 3, 7, 64, 65, 131]
    forms = {rank: terms_of(rank, num_in, num_out, dtype) for rank in ranks}
    runs = [(rank, lengths[i % len(lengths)]) for i, rank in enumerate([*ranks, *reversed(ranks)])]
    row_slot = [slot for slot, length in runs for _ in range(length)]
    x = torch.randn(1, len(row_slot), num_in).to(dtype)
    mine, twin = (
        outputs(native, forms, row_slot, x, num_out) for native in (native_of(dtype), None)
    )
    # Sums are about as large as the root of `num_in`. Those of hundreds of numbers differ by their
    # order, which shows in float32; in bfloat16 what shows is how a result is rounded.
    scale = twin.abs() + num_in**0.5
    most = 32 if dtype == torch.float32 else 2
    assert ((mine - twin).abs() / scale).max() < most * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_the_same_adapter_leave_a_row_as_it_is(dtype: torch.dtype) -> None:
    kernel = native_of(dtype).terms
    torch.manual_seed(0)
    table = kernel.table()
    terms = terms_of(19, 70, 45, dtype)
    table.set(0, terms)
    x, y = torch.randn(9, 70).to(dtype), torch.randn(9, 45).to(dtype)
    alone = y.clone()
    kernel.add_to(table, kernel.runs([(0, row, row + 1) for row in range(9)]), x, alone)
    for num in (2, 4, 9):
        together = y.clone()
        kernel.add_to(table, kernel.runs([(0, 0, num)]), x, together)
        assert torch.equal(together[:num], alone[:num])
        assert torch.equal(together[num:], y[num:])


def test_a_slot_that_was_dropped_acts_no_more_and_one_with_other_terms_goes_to_the_twin() -> None:
    native = native_of(torch.float32)
    linear = torch.nn.Linear(8, 8).requires_grad_(False)
    site, context = site_of(native, linear)
    site.set_form(3, SiteForm(Terms(d=torch.ones(8))))
    site.set_form(5, SiteForm(Terms(scale=torch.zeros(8))))
    x = torch.randn(1, 3, 8)
    plain = torch.nn.functional.linear(x[0], linear.weight, linear.bias)
    with torch.inference_mode():
        context.begin(step([3, 5, NO_SLOT]), [], torch.tensor([]))
        mixed = linear(x)[0]
        site.drop_form(3)
        site.drop_form(5)
        dropped = linear(x)[0]
    torch.testing.assert_close(mixed, torch.stack([plain[0] + 1, linear.bias, plain[2]]))
    torch.testing.assert_close(dropped, plain)
