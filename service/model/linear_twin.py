"""A kernel of linear modules beside its twin, torch's own, on weights in blocks as oneDNN's."""

import torch
from torch.nn import functional

from service.model.kernels import LinearKernel, PackedWeight, TermKernel
from service.operator.terms import Terms

_BLOCK = 64
_SPARE = 5
"""Words at the end of a block that nobody multiplies."""


def equals(kernel: LinearKernel, terms: TermKernel, device: torch.device) -> bool:
    """On sizes that no vector width divides, and with terms as they are when applied afterwards."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).sub(0.5).to(device, kernel.dtype)

    for num_in, num_out, num_rows in ((141, 83, 1), (141, 83, 7), (70, 64, kernel.max_rows)):
        weight, x = draw(num_out, num_in), draw(num_rows, num_in)
        blocks = blocked(weight)
        for bias in (None, draw(num_out)):
            packed = PackedWeight(blocks.data_ptr(), blocks.nbytes, num_in, num_out, bias)
            one = kernel.weight(packed)
            if one is None or not kernel.takes(one, x):
                return False
            y = kernel.multiply(one, x)
            if not is_close(y, functional.linear(x, weight, bias)):
                return False
            form = Terms(a=draw(8, num_in), b=draw(num_out, 8))
            table = terms.table()
            table.set(0, form)
            runs = terms.runs([(0, num_rows // 2, num_rows)])
            together = kernel.multiply(one, x, table, runs)
            terms.add_to(table, runs, x, y)
            if not torch.equal(together, y):
                return False
    return True


def is_close(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Sums of the same products, in whatever order."""
    unit = max(4 * torch.finfo(left.dtype).eps, 1e-5)
    largest = float(right.abs().max())
    return torch.allclose(left.float(), right.float(), rtol=unit, atol=unit * largest)


def blocked(weight: torch.Tensor) -> torch.Tensor:
    """`[blocks, words of inputs, outputs of a block, elements of a word]`, filled up with zeros."""
    num_out, num_in = weight.shape
    size = 4 // weight.dtype.itemsize
    num_words, num_blocks = -(-num_in // size) + _SPARE, -(-num_out // _BLOCK)
    padding = (0, num_words * size - num_in, 0, num_blocks * _BLOCK - num_out)
    full = functional.pad(weight, padding).view(num_blocks, _BLOCK, num_words, size)
    return full.transpose(1, 2).contiguous()
