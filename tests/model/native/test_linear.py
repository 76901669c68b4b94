"""Native products of few rows against torch's own, alone and together with a site's terms."""

import pytest
import torch
from torch.nn import functional

from service.model.context import StepContext
from service.model.kernels import Kernels, PackedWeight
from service.model.linear_twin import blocked, is_close
from service.model.native.linear import LinearWeight, NativeLinear
from service.model.packing import PackedLinear, pack_linears
from service.model.sites import Site, SiteForm
from service.operator.terms import Terms
from tests.model.native.library import native_of
from tests.model.native.test_terms import step

DTYPES = [torch.float32, torch.bfloat16]


def kernel_of(dtype: torch.dtype) -> NativeLinear:
    kernel = native_of(dtype).linear
    assert isinstance(kernel, NativeLinear)
    return kernel


def weight_of(
    kernel: NativeLinear, blocks: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> LinearWeight:
    num_out, num_in = weight.shape
    found = kernel.weight(PackedWeight(blocks.data_ptr(), blocks.nbytes, num_in, num_out, bias))
    assert found is not None
    return found


def packed_of(native: Kernels, num_in: int, num_out: int, dtype: torch.dtype) -> torch.nn.Linear:
    torch.manual_seed(0)
    linear = torch.nn.Linear(num_in, num_out).to(dtype).requires_grad_(False)
    if pack_linears(linear, dtype, native.linear) == 0:
        pytest.skip("this processor multiplies plain weights")
    assert isinstance(linear.forward, PackedLinear)
    if not linear.forward.is_read_by_kernel:
        pytest.skip("oneDNN has another layout here")
    return linear


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 64), (65, 127), (200, 33), (129, 321)])
def test_products_are_those_of_torch(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    kernel = kernel_of(dtype)
    weight = torch.randn(*shape).to(dtype)
    blocks = blocked(weight)
    for bias in (None, torch.randn(shape[0]).to(dtype)):
        here = weight_of(kernel, blocks, weight, bias)
        for num_rows in range(1, kernel.max_rows + 1):
            x = torch.randn(1, num_rows, shape[1]).to(dtype)
            assert kernel.takes(here, x)
            y = kernel.multiply(here, x)
            assert y.shape == (1, num_rows, shape[0])
            assert is_close(y, functional.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_whatever_rows_stand_beside_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kernel = kernel_of(dtype)
    weight = torch.randn(100, 301).to(dtype)
    blocks = blocked(weight)
    here = weight_of(kernel, blocks, weight, None)
    x = torch.randn(kernel.max_rows, 301).to(dtype)
    together = kernel.multiply(here, x)
    alone = [kernel.multiply(here, row[None]) for row in x]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("dtype", DTYPES)
def test_terms_in_the_same_call_are_those_of_a_call_of_their_own(dtype: torch.dtype) -> None:
    native = native_of(dtype)
    linear = packed_of(native, 70, 45, dtype)
    forms = {
        0: Terms(a=torch.randn(16, 70).to(dtype), b=torch.randn(45, 16).to(dtype)),
        2: Terms(a=torch.randn(3, 70).to(dtype), b=torch.randn(45, 3).to(dtype), d=torch.ones(45)),
        7: Terms(c=torch.randn(45), d=torch.randn(45)),
    }
    x = torch.randn(1, 8, 70).to(dtype)
    plain = linear(x)
    context = StepContext(kernels=native)
    site = Site("site", linear, "all", context)
    for slot, terms in forms.items():
        site.set_form(slot, SiteForm(terms))
    context.begin(step([0, 0, 0, 2, -1, 7, 1, 0]), [], torch.tensor([]))
    with torch.inference_mode():
        together = linear(x)
        apart = plain.clone()
        native.terms.add_to(site._table, context.rows.kernel_runs, x, apart)
    assert torch.equal(together, apart)
    assert not torch.equal(together[0, 0], plain[0, 0])
    assert torch.equal(together[0, 4], plain[0, 4])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_oneDNN_packs_is_read_where_it_lies(dtype: torch.dtype) -> None:
    kernel = kernel_of(dtype)
    linear = packed_of(native_of(dtype), 96, 200, dtype)
    for num_rows in (1, kernel.max_rows, kernel.max_rows + 1):
        x = torch.randn(num_rows, 96).to(dtype)
        assert is_close(linear(x), functional.linear(x, linear.weight, linear.bias))


@pytest.mark.parametrize(
    ("flags", "dtype", "most"),
    [
        ({"avx512f", "avx512_bf16", "amx_bf16"}, torch.bfloat16, 8),
        ({"avx512f", "avx512_bf16"}, torch.bfloat16, 128),
        ({"avx512f", "avx512_bf16"}, torch.float32, 32),
        ({"avx2"}, torch.bfloat16, 32),
    ],
)
def test_it_takes_as_many_rows_as_it_is_fast_on(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], dtype: torch.dtype, most: int
) -> None:
    monkeypatch.setattr("service.model.native.linear.processor", lambda: frozenset(flags))
    assert kernel_of(dtype).max_rows == most


def test_other_rows_are_not_taken() -> None:
    kernel = kernel_of(torch.float32)
    weight = torch.randn(8, 6)
    blocks = blocked(weight)
    here = weight_of(kernel, blocks, weight, None)
    assert not kernel.takes(here, torch.randn(kernel.max_rows + 1, 6))
    assert not kernel.takes(here, torch.randn(0, 6))
    assert not kernel.takes(here, torch.randn(3, 12)[:, ::2])
    assert not kernel.takes(here, torch.randn(2, 3))
    assert not kernel.takes(here, torch.randn(2, 6, dtype=torch.float64))


def test_another_layout_is_left_to_oneDNN() -> None:
    """One of other sizes, and one that has the right ones."""
    kernel = kernel_of(torch.float32)
    weight = torch.randn(128, 48)
    assert kernel.weight(PackedWeight(weight.data_ptr(), 100, 48, 128, None)) is None
    torch.manual_seed(0)
    linear = torch.nn.Linear(48, 128).requires_grad_(False)

    class Shuffled:
        """A kernel that takes plain weights for packed ones."""

        dtype, max_rows = torch.float32, kernel.max_rows
        takes, multiply = kernel.takes, kernel.multiply

        def weight(self, packed: PackedWeight) -> LinearWeight | None:
            plain = linear.weight
            return kernel.weight(PackedWeight(plain.data_ptr(), plain.nbytes, 48, 128, packed.bias))

    if pack_linears(linear, torch.float32, Shuffled()) == 0:
        pytest.skip("this processor multiplies plain weights")
    assert isinstance(linear.forward, PackedLinear)
    assert not linear.forward.is_read_by_kernel
    x = torch.randn(2, 48)
    torch.testing.assert_close(linear(x), functional.linear(x, linear.weight, linear.bias))
