"""Native norms, gates and rotations against what torch computes, over sizes and layouts."""

import pytest
import torch

from service.model.elementwise_twin import NORM_FORMS, draw, gated, is_same, rms_norm, rotated
from service.model.kernels import ElementwiseKernel, NormForm
from tests.model.native.library import native_of

EPS = 1e-6
PARALLEL = (64, 640)
"""As many rows of a size as several threads share."""


@pytest.fixture(params=[1, 3], ids=["alone", "threads"])
def num_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    return request.param


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def kernel(request: pytest.FixtureRequest, num_threads: int) -> ElementwiseKernel:
    elementwise = native_of(request.param).elementwise
    assert elementwise is not None
    return elementwise


def make(kernel: ElementwiseKernel, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return draw(*shape, dtype=kernel.dtype, generator=generator)


@pytest.mark.parametrize("form", NORM_FORMS)
@pytest.mark.parametrize(
    ("rows", "size"), [(0, 16), (1, 768), (9, 1), (9, 67), (9, 2048), (3, 5120), PARALLEL]
)
def test_norms(kernel: ElementwiseKernel, form: NormForm, rows: int, size: int) -> None:
    x, weight = make(kernel, 1, rows, size), make(kernel, size)
    norm = kernel.norm(weight, EPS, form)
    assert norm.takes(x)
    assert is_same(norm(x), rms_norm(x, weight, EPS, form))


def test_norms_leave_to_torch_what_lies_otherwise(kernel: ElementwiseKernel) -> None:
    norm = kernel.norm(make(kernel, 8), EPS, NormForm())
    x = make(kernel, 4, 8)
    assert norm.takes(x)
    assert not norm.takes(x.double())
    assert not norm.takes(make(kernel, 4, 16)[:, ::2])
    assert not norm.takes(make(kernel, 4, 16))


@pytest.mark.parametrize("shape", [(0, 16), (1, 3072), (2, 3, 37), (1, 9, 37), PARALLEL])
def test_gates(kernel: ElementwiseKernel, shape: tuple[int, ...]) -> None:
    gate, up = make(kernel, *shape), make(kernel, *shape)
    assert kernel.takes_gate(gate, up)
    assert is_same(kernel.gated(gate, up), gated(gate, up))


def test_gates_of_single_rows_whose_distance_means_nothing(kernel: ElementwiseKernel) -> None:
    gate, up = (make(kernel, 5, 40).as_strided((5, 1, 40), (40, 3, 1)) for _ in range(2))
    assert kernel.takes_gate(gate, up)
    assert is_same(kernel.gated(gate, up), gated(gate, up))


def test_gates_of_halves(kernel: ElementwiseKernel) -> None:
    for both in (make(kernel, 9, 74), make(kernel, 1, 9, 74)):
        up, gate = both.chunk(2, dim=-1)
        assert kernel.takes_gate(gate, up)
        assert is_same(kernel.gated(gate, up), gated(gate, up))
    assert not kernel.takes_gate(*make(kernel, 2, 9, 74).chunk(2, dim=-1))
    assert not kernel.takes_gate(gate, up.contiguous())
    assert not kernel.takes_gate(gate[..., ::2], up[..., ::2])


def test_silu_of_every_bfloat16() -> None:
    kernel = native_of(torch.bfloat16).elementwise
    assert kernel is not None
    every = torch.arange(1 << 16).to(torch.int16).view(1, -1).view(torch.bfloat16)
    is_tiny = every.abs() < 4 * torch.finfo(torch.bfloat16).tiny
    one = torch.ones_like(every)
    found, expected = kernel.gated(every, one), gated(every, one)
    torch.testing.assert_close(found[~is_tiny], expected[~is_tiny], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("batch", "rows", "size"), [(1, 1, 64), (1, 9, 2), (3, 5, 80), (1, *PARALLEL)]
)
def test_rotations(kernel: ElementwiseKernel, batch: int, rows: int, size: int) -> None:
    heads = make(kernel, batch, rows, 5, size).transpose(1, 2)
    query, key = heads[:, :3], heads[:, 3:]
    cos, sin = make(kernel, 2, batch, rows, size)
    assert kernel.takes_heads(query, key, cos, sin)
    pairs = zip(kernel.rotated(query, key, cos, sin), rotated(query, key, cos, sin), strict=True)
    for found, expected in pairs:
        assert is_same(found, expected)
        assert found.transpose(1, 2).is_contiguous()


def test_rotations_of_parts_of_heads_and_of_other_layouts(kernel: ElementwiseKernel) -> None:
    heads = make(kernel, 1, 4, 7, 24)
    query, key = heads[:, :3, :, :16], heads[:, 3:, :, :16]
    cos, sin = make(kernel, 2, 1, 7, 16)
    assert kernel.takes_heads(query, key, cos, sin)
    pairs = zip(kernel.rotated(query, key, cos, sin), rotated(query, key, cos, sin), strict=True)
    assert all(is_same(found, expected) for found, expected in pairs)
    assert not kernel.takes_heads(heads, heads, cos, sin)
    assert not kernel.takes_heads(query, key, cos[..., ::2], sin[..., ::2])
    assert not kernel.takes_heads(query, key.double(), cos, sin)
    assert not kernel.takes_heads(query[..., ::2], key[..., ::2], cos[..., :8], sin[..., :8])
