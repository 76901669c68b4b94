"""What a model computes between its products, as torch does it, and a kernel beside it."""

from itertools import starmap

import torch
from torch.nn import functional

from service.model.kernels import ElementwiseKernel, NormForm

NORM_FORMS = (NormForm(rounds_first=True), NormForm(adds_one=True), NormForm())
"""Of Llama, of Gemma and of OLMo 2, and of whoever follows them."""
_EPS = 1e-5
_SIZES = (141, 96)
"""One that no vector width divides, and one that all do."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, form: NormForm) -> torch.Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if form.rounds_first:
        normed = normed.to(x.dtype)
    return (normed * (1.0 + weight.float() if form.adds_one else weight)).to(x.dtype)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.silu(gate) * up


def rotated(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`query, key [B, heads, T, dim]`, `cos, sin [B, T, dim]`"""
    cos, sin = cos[:, None], sin[:, None]
    turned_query, turned_key = (one * cos + _half_turned(one) * sin for one in (query, key))
    return turned_query, turned_key


def _half_turned(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def draw(*shape: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Small and large numbers by rows, with zeros, infinities, numbers that are none, and numbers
    whose squares are too large or too small for float32."""
    values = torch.randn(*shape, generator=generator)
    rows = values.view(-1, shape[-1])
    for row, factor in enumerate((1e4, 1e-3, 30.0, 1e30, 1e-25, 0.0)):
        rows[row + 1 :: 7] *= factor
    for row, number in enumerate(("inf", "-inf", "nan")):
        rows[row + 8 :: 16, 0] = float(number)
    return values.to(dtype)


def is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """All bits of bfloat16, but for one number in a hundred, which may be the next one: sums and
    exponentials of processors differ in the last bits of float32. What is smaller than the normal
    numbers may be zero."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False

    def close(tolerance: float) -> torch.Tensor:
        tiny = torch.finfo(torch.bfloat16).tiny
        found_, expected_ = found.float(), expected.float()
        return found_.isclose(expected_, rtol=tolerance, atol=tiny, equal_nan=True)

    last_bits = 8 * torch.finfo(torch.float32).eps
    step = max(last_bits, torch.finfo(found.dtype).eps)
    return bool(close(step).all()) and int((~close(last_bits)).sum()) <= found.numel() / 100


def equals(kernel: ElementwiseKernel, device: torch.device) -> bool:
    """On every form, on sizes with and without a rest, and in the layouts that models have."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int) -> torch.Tensor:
        return draw(*shape, dtype=kernel.dtype, generator=generator).to(device)

    return (
        all(_norms_equal(kernel, make(16, size), make(size)) for size in _SIZES)
        and all(_gates_equal(kernel, make(1, 16, 2 * size)) for size in _SIZES)
        and all(
            _heads_equal(kernel, make(2, 2, 9, size), make(2, 9, 5 * size)) for size in (22, 96)
        )
    )


def _norms_equal(kernel: ElementwiseKernel, x: torch.Tensor, weight: torch.Tensor) -> bool:
    for form in NORM_FORMS:
        norm = kernel.norm(weight, _EPS, form)
        if not norm.takes(x) or not is_same(norm(x), rms_norm(x, weight, _EPS, form)):
            return False
    return True


def _gates_equal(kernel: ElementwiseKernel, both: torch.Tensor) -> bool:
    halves = both.chunk(2, dim=-1)
    return all(
        kernel.takes_gate(gate, up) and is_same(kernel.gated(gate, up), gated(gate, up))
        for gate, up in (halves, [one.contiguous() for one in halves])
    )


def _heads_equal(kernel: ElementwiseKernel, angles: torch.Tensor, both: torch.Tensor) -> bool:
    """`angles [2, B, T, dim]`, `both [B, T, heads * dim]`: three of queries beside two of keys."""
    cos, sin = angles
    heads = both.view(*cos.shape[:2], 5, cos.shape[-1]).transpose(1, 2)
    query, key = heads[:, :3], heads[:, 3:]
    if not kernel.takes_heads(query, key, cos, sin):
        return False
    pairs = zip(kernel.rotated(query, key, cos, sin), rotated(query, key, cos, sin), strict=True)
    return all(starmap(is_same, pairs))
