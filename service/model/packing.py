"""Weights of linear modules in the layout that oneDNN multiplies fastest on this processor.

The plain weights stay where they are, for whoever reads them (peft's own layers, tied embeddings).
Mapped from the base's file they take no memory as long as nobody does.
"""

import ctypes
import mmap

import torch
from torch.nn import functional

_TYPICAL_ROWS = 32
"""What oneDNN is told to expect; every other number works too."""
_MADV_PAGEOUT = 21


class PackedLinear:
    """`forward` of a linear module on its packed weight."""

    def __init__(self, module: torch.nn.Linear) -> None:
        self._module = module
        self._weight = torch.ops.mkldnn._reorder_linear_weight(module.weight, _TYPICAL_ROWS)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == 0:
            return functional.linear(x, self._module.weight, self._module.bias)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._module.bias, "none", [], ""
        )
        return result


def pack_linears(model: torch.nn.Module, dtype: torch.dtype) -> int:
    """Pack what can be packed on a processor; how many modules that are."""
    if not _can_pack(dtype):
        return 0
    # A subclass may compute something else.
    linears = [one for one in model.modules() if type(one) is torch.nn.Linear]
    modules = [one for one in linears if one.weight.dtype == dtype]
    for module in modules:
        module.forward = PackedLinear(module)  # type: ignore[assignment, method-assign]
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
