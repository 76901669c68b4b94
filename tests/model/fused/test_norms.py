"""Which modules are taken for norms, and norms that are sites as well."""

import pytest
import torch

from service.model.context import StepContext
from service.model.elementwise_twin import rms_norm
from service.model.fused.norms import FusedNorm, fuse_norms
from service.model.kernels import NormForm
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from tests.model.fused.modules import kernel_of
from tests.model.test_sites import step

SIZE = 48
BF16 = torch.bfloat16


class Norm(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = BF16) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(SIZE, dtype=dtype), requires_grad=False)
        self.eps = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.weight, self.eps, NormForm(rounds_first=True))


class AddsOne(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.weight, self.eps, NormForm(adds_one=True))


class InRunDtype(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class TwoRoundings(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.weight, self.eps, NormForm(rounds_first=True)).mul(1.01).div(1.01)


class AddsOneInRunDtype(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, 1 + self.weight, self.eps, NormForm())


class EpsOutside(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        root = wide.pow(2).mean(-1, keepdim=True).sqrt() + self.eps
        return self.weight * (wide / root).to(x.dtype)


class Clamped(Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.clamp(-1e3, 1e3))


class WithGate(Norm):
    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x if gate is None else x * gate)


class WithBias(Norm):
    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(SIZE, dtype=BF16), requires_grad=False)


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [Norm, AddsOne])
def test_a_norm_is_found_whatever_its_class(kind: type[Norm], dtype: torch.dtype) -> None:
    norm = kind(dtype)
    norm.weight.normal_()
    x = torch.randn(2, 5, SIZE).to(dtype)
    plain = norm(x)
    assert fuse_norms(torch.nn.Sequential(norm), kernel_of(dtype)) == 1
    torch.testing.assert_close(norm(x), plain, rtol=1e-6, atol=1e-6)
    assert torch.equal(norm(x[..., ::1].transpose(0, 1)), norm(x).transpose(0, 1))


@pytest.mark.parametrize(
    "kind",
    [InRunDtype, AddsOneInRunDtype, TwoRoundings, EpsOutside, Clamped, WithGate, WithBias],
)
def test_what_only_looks_like_a_norm_is_left_alone(kind: type[Norm]) -> None:
    """Although on weights of one, or on common numbers, some of them compute the same."""
    norm = kind()
    assert fuse_norms(norm, kernel_of(BF16)) == 0
    assert "forward" not in vars(norm)


def test_other_norms_and_other_dtypes_are_left_alone() -> None:
    others = torch.nn.Sequential(
        torch.nn.LayerNorm(SIZE, bias=False), torch.nn.Linear(SIZE, 1, bias=False)
    ).to(BF16)
    assert fuse_norms(others, kernel_of(BF16)) == 0
    assert fuse_norms(Norm(torch.float32), kernel_of(BF16)) == 0


def test_an_adapter_s_own_weight_is_what_its_rows_are_multiplied_by() -> None:
    norm = Norm()
    fuse_norms(norm, kernel_of(BF16))
    assert isinstance(norm.forward, FusedNorm)
    context = StepContext()
    site = Site("norm", norm, "all", context, "norm")
    weight = torch.full((SIZE,), 3.0, dtype=BF16)
    site.set_form(0, SiteForm(Terms(), site.private_copy({"weight": weight})))
    context.begin(step([0, 1]), [], torch.tensor([]))
    x = torch.randn(1, 2, SIZE).to(BF16)
    with torch.inference_mode():
        y = norm(x)[0]
    form = NormForm(rounds_first=True)
    assert torch.equal(y[0], rms_norm(x[0, 0], weight, norm.eps, form))
    assert torch.equal(y[1], rms_norm(x[0, 1], norm.weight, norm.eps, form))
