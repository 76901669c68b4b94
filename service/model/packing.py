"""Weights of linear modules in the layout that oneDNN multiplies fastest on this processor.

The plain weights stay where they are, for whoever reads them (peft's own layers, tied embeddings).
Mapped from the base's file they take no memory as long as nobody does.
"""

import ctypes
import mmap
from typing import Any

import torch
from torch.nn import functional

from service.model.kernels import LinearKernel, PackedWeight, TermTable
from service.model.linear_twin import is_close

_TYPICAL_ROWS = 32
"""What oneDNN is told to expect; every other number works too."""
_MADV_PAGEOUT = 21


class PackedLinear:
    """`forward` of a linear module on its packed weight: oneDNN's, or the kernel's on few rows."""

    def __init__(self, module: torch.nn.Linear, kernel: LinearKernel | None = None) -> None:
        self._module = module
        self._weight = torch.ops.mkldnn._reorder_linear_weight(module.weight, _TYPICAL_ROWS)
        self._kernel = kernel
        self._few = self._for_few_rows()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._kernel is not None and self._few is not None and self._kernel.takes(self._few, x):
            return self._kernel.multiply(self._few, x)
        if x.numel() == 0:
            return functional.linear(x, self._module.weight, self._module.bias)
        return self._multiply(x)

    def with_terms(
        self, x: torch.Tensor, num_rows: int, table: TermTable | None, runs: Any
    ) -> torch.Tensor | None:
        """The same and the kernel's terms, of few rows; None where it takes a call for each."""
        kernel, few = self._kernel, self._few
        if kernel is None or few is None or table is None or not kernel.takes(few, x):
            return None
        if x.numel() != num_rows * self._module.in_features:
            return None
        return kernel.multiply(few, x, table, runs)

    @property
    def is_read_by_kernel(self) -> bool:
        return self._few is not None

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._module.bias, "none", [], ""
        )
        return result

    def _for_few_rows(self) -> Any | None:
        """What the kernel reads, in oneDNN's own memory; None unless products are the same."""
        if self._kernel is None:
            return None
        module = self._module
        few = self._kernel.weight(
            PackedWeight(
                torch.ops.mkldnn.data_ptr(self._weight),
                torch.ops.mkldnn._nbytes(self._weight),
                module.in_features,
                module.out_features,
                module.bias,
            )
        )
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(1, module.in_features, generator=generator).to(module.weight.dtype) - 0.5
        if few is None or not self._kernel.takes(few, x):
            return None
        return few if is_close(self._kernel.multiply(few, x), self._multiply(x)) else None


def pack_linears(
    model: torch.nn.Module, dtype: torch.dtype, kernel: LinearKernel | None = None
) -> int:
    """Pack what can be packed on a processor; how many modules that are."""
    if not _can_pack(dtype):
        return 0
    # A subclass may compute something else.
    linears = [one for one in model.modules() if type(one) is torch.nn.Linear]
    modules = [one for one in linears if one.weight.dtype == dtype]
    for module in modules:
        module.forward = PackedLinear(module, kernel)  # type: ignore[assignment, method-assign]
        _release_pages(module.weight)
    return len(modules)


def _can_pack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _release_pages(weight: torch.Tensor) -> None:
    """Advice only: pages of a file are read again when they are wanted, others stay."""
    page = mmap.PAGESIZE
    start = -(-weight.data_ptr() // page) * page
    length = (weight.data_ptr() + weight.nbytes - start) // page * page
    if length > 0:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_PAGEOUT)
