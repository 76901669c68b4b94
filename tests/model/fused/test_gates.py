"""Which modules are taken for gated ones, and that their parts stay sites."""

import pytest
import torch
from torch.nn import functional

from service.model.context import StepContext
from service.model.fused.gates import fuse_gates
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from tests.model.fused.modules import kernel_of
from tests.model.test_sites import step

BF16 = torch.bfloat16


def linear(size_in: int, size_out: int) -> torch.nn.Linear:
    return torch.nn.Linear(size_in, size_out, dtype=BF16).requires_grad_(False)


class Gated(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.one, self.two = linear(20, 12), linear(12, 20), linear(12, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.one(x)) * self.two(x))


class OtherOrder(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.one(x) * functional.silu(self.two(x)))


class Halves(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.both, self.down = linear(12, 40), linear(20, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up, gate = self.both(x).chunk(2, dim=-1)
        return self.down(up * functional.silu(gate))


class Gelu(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.gelu(self.one(x)) * self.two(x))


class Clamped(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.one(x)).clamp(max=100.0) * self.two(x))


class Scaled(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 1.5


class OtherInput(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.one(x)) * self.two(x + 0))


class Twice(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.one(x)
        return super().forward(x)


class Never(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class InFloat32(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = functional.silu(self.one(x).float()) * self.two(x).float()
        return self.down(wide.to(x.dtype))


class WithNumbers(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1, dtype=BF16))


@pytest.mark.parametrize("kind", [Gated, OtherOrder, Halves])
def test_a_gated_module_is_found_whatever_its_parts_are_called(
    kind: type[torch.nn.Module],
) -> None:
    module = kind()
    x = torch.randn(2, 9, 12).to(BF16)
    plain = module(x)
    assert fuse_gates(torch.nn.Sequential(module), kernel_of(BF16)) == 1
    assert torch.equal(module(x), plain)


@pytest.mark.parametrize(
    "kind", [Gelu, Clamped, Scaled, OtherInput, Twice, Never, InFloat32, WithNumbers]
)
def test_what_only_looks_like_a_gated_module_is_left_alone(kind: type[Gated]) -> None:
    module = kind()
    assert fuse_gates(module, kernel_of(BF16)) == 0
    assert "forward" not in vars(module)


def test_sites_of_a_gated_module_carry_adapters() -> None:
    """As IA3 does: the input of the last part, and outputs of the others."""
    forms = {
        "one": Terms(d=torch.randn(20)),
        "two": Terms(c=torch.randn(20)),
        "down": Terms(scale=torch.randn(12 + 8).to(BF16)),
    }
    found = []
    for is_fused in (True, False):
        module, context = Gated(), StepContext()
        if is_fused:
            assert fuse_gates(module, kernel_of(BF16)) == 1
        for name, terms in forms.items():
            site = Site(name, module.get_submodule(name), "all", context)
            site.set_form(0, SiteForm(terms))
        context.begin(step([0, 1, 0]), [], torch.tensor([]))
        torch.manual_seed(1)
        with torch.inference_mode():
            found.append(module(torch.randn(1, 3, 12).to(BF16)))
    assert torch.equal(*found)
