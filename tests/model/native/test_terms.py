"""The native terms of a site against their torch twin."""

import pytest
import torch

from service.core import NO_SLOT
from service.model.context import StepContext
from service.model.kernels import Kernels
from service.model.native.terms import NativeTerms
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_site_computes_the_same_with_and_without_the_kernel(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    forms = {
        0: Terms(a=torch.randn(16, 70).to(dtype), b=torch.randn(45, 16).to(dtype)),
        2: Terms(a=torch.randn(3, 70).to(dtype), b=torch.randn(45, 3).to(dtype)),
        7: Terms(c=torch.randn(45), d=torch.randn(45)),
        40: Terms(d=torch.randn(45)),
        41: Terms(a=torch.randn(68, 70).to(dtype), b=torch.randn(45, 68).to(dtype)),
    }
    longest = NativeTerms.max_run_rows
    row_slot = [0, 0, 2, NO_SLOT, 7, 40, 1, *[2] * (longest + 1), *[41] * longest, 0]
    x = torch.randn(1, len(row_slot), 70).to(dtype)
    results = []
    for native in (native_of(dtype), None):
        linear = torch.nn.Linear(70, 45).to(dtype).requires_grad_(False)
        with torch.no_grad():
            linear.weight.copy_(torch.linspace(-1, 1, 45 * 70).view(45, 70))
            linear.bias.fill_(0.5)
        site, context = site_of(native, linear)
        for slot, terms in forms.items():
            site.set_form(slot, SiteForm(terms))
        context.begin(step(row_slot), [], torch.tensor([]))
        with torch.inference_mode():
            results.append(linear(x)[0].float())
    scale = results[1].abs().max()
    assert (results[0] - results[1]).abs().max() / scale < 4 * torch.finfo(dtype).eps
    assert not torch.equal(results[1][0], results[1][3])


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
