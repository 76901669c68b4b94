"""Weights of linear modules in the layout that oneDNN multiplies fastest on this processor.

The plain weights stay where they are, for whoever reads them (peft's own layers, tied embeddings).
Mapped from the base's file they take no memory as long as nobody does.
"""

from typing import Any

import torch
from torch.nn import functional

from service.model.kernels import LinearKernel, PackedWeight, TermTable
from service.model.linear_twin import is_close
from service.model.pages import Range, join_pages, release_pages

_TYPICAL_ROWS = 32
"""What oneDNN is told to expect; every other number works too."""
_JOIN_S = 1.0
"""What a start may take longer for it: enough for about half a gigabyte."""


class PackedLinear:
    """`forward` of a linear module on its packed weight: oneDNN's, or the kernel's on few rows."""

    def __init__(self, module: torch.nn.Linear, kernel: LinearKernel | None = None) -> None:
        self._module = module
        self._weight = torch.ops.mkldnn._reorder_linear_weight(module.weight, _TYPICAL_ROWS)
        self._few = None if kernel is None else self._for_few_rows(kernel)
        self._kernel = None if self._few is None else kernel

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._kernel is not None and self._kernel.takes(self._few, x):
            return self._kernel.multiply(self._few, x)
        if x.numel() == 0:
            return functional.linear(x, self._module.weight, self._module.bias)
        return self._multiply(x)

    def with_terms(
        self, x: torch.Tensor, num_rows: int, table: TermTable | None, runs: Any
    ) -> torch.Tensor | None:
        """The same and the kernel's terms, of few rows; None where it takes a call for each."""
        kernel = self._kernel
        if kernel is None or table is None or not kernel.takes(self._few, x):
            return None
        if x.numel() != num_rows * self._module.in_features:
            return None
        return kernel.multiply(self._few, x, table, runs)

    @property
    def memory(self) -> Range:
        """Where the packed weight lies."""
        start = torch.ops.mkldnn.data_ptr(self._weight)
        return start, start + torch.ops.mkldnn._nbytes(self._weight)

    @property
    def is_read_by_kernel(self) -> bool:
        return self._kernel is not None

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        """For each number of rows that it meets oneDNN compiles a kernel, which takes longer than
        the product of some rows more."""
        num_rows = x.numel() // x.shape[-1]
        num_more = _filled_up(num_rows) - num_rows
        if not num_more:
            return self._product(x)
        filled = functional.pad(x.reshape(num_rows, -1), (0, 0, 0, num_more))
        return self._product(filled)[:num_rows].view(*x.shape[:-1], -1)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._module.bias, "none", [], ""
        )
        return result

    def _for_few_rows(self, kernel: LinearKernel) -> Any | None:
        """What the kernel reads, in oneDNN's own memory; None unless products are the same."""
        module = self._module
        start, stop = self.memory
        few = kernel.weight(
            PackedWeight(start, stop - start, module.in_features, module.out_features, module.bias)
        )
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(1, module.in_features, generator=generator).to(module.weight.dtype) - 0.5
        if few is None or not kernel.takes(few, x):
            return None
        return few if is_close(kernel.multiply(few, x), self._multiply(x)) else None


def pack_linears(
    model: torch.nn.Module, dtype: torch.dtype, kernel: LinearKernel | None = None
) -> int:
    """Pack what can be packed on a processor; how many modules that are."""
    if not _can_pack(dtype):
        return 0
    # A subclass may compute something else.
    linears = [one for one in model.modules() if type(one) is torch.nn.Linear]
    modules = [one for one in linears if one.weight.dtype == dtype]
    packed = []
    for module in modules:
        forward = PackedLinear(module, kernel)
        module.forward = forward  # type: ignore[assignment, method-assign]
        plain = module.weight.data_ptr()
        release_pages((plain, plain + module.weight.nbytes))
        packed.append(forward.memory)
    join_pages(packed, _JOIN_S)
    return len(modules)


def _filled_up(num_rows: int) -> int:
    """One row has a kernel of its own, which is the fastest."""
    size = 8 if num_rows <= 128 else 16
    return num_rows if num_rows == 1 else -(-num_rows // size) * size


def _can_pack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
