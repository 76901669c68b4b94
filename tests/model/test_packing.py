"""Packed weights compute what plain ones do, and stand in nobody's way."""

import pytest
import torch

from service.model.context import StepContext
from service.model.packing import PackedLinear, pack_linears
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from tests.model.test_sites import step


def linear_of(dtype: torch.dtype) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(48, 40).to(dtype).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 48), (1, 48), (1, 9, 48), (130, 48)])
def test_a_packed_module_computes_the_same(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    linear = linear_of(dtype)
    x = torch.randn(*shape).to(dtype)
    plain = linear(x)
    if pack_linears(linear, dtype) == 0:
        pytest.skip("this processor multiplies plain weights")
    assert linear.forward.__class__.__name__ == "PackedLinear"
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(linear(x), plain, rtol=8 * eps, atol=8 * eps)


def test_one_dnn_meets_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = linear_of(torch.float32)
    if pack_linears(linear, torch.float32) == 0:
        pytest.skip("this processor multiplies plain weights")
    met = set()
    product = PackedLinear._product

    def noted(self: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        met.add(len(x))
        return product(self, x)

    monkeypatch.setattr(PackedLinear, "_product", noted)
    for num_rows in range(1, 513):
        assert linear(torch.ones(num_rows, 48)).shape == (num_rows, 40)
    assert len(met) < 50


def test_what_replaces_a_parameter_is_not_computed_with_the_packed_one() -> None:
    linear = linear_of(torch.float32)
    pack_linears(linear, torch.float32)
    context = StepContext()
    site = Site("site", linear, "all", context)
    site.set_form(0, SiteForm(Terms(), site.private_copy({"weight": torch.zeros(40, 48)})))
    context.begin(step([0, 1]), [], torch.tensor([]))
    x = torch.randn(1, 2, 48)
    with torch.inference_mode():
        y = linear(x)[0]
    torch.testing.assert_close(y[0], linear.bias)
    torch.testing.assert_close(y[1], linear.weight @ x[0, 1] + linear.bias)


def test_a_module_of_another_class_is_left_alone() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = torch.nn.Sequential(Doubled(8, 8))
    x = torch.randn(3, 8)
    expected = model(x)
    assert pack_linears(model, torch.float32) == 0
    assert torch.equal(model(x), expected)
