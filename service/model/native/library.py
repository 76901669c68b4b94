"""Loads what is native. At start each kernel is compared with its torch twin; where they differ, or
nothing can be compiled, the twins do the work alone."""

import ctypes
from pathlib import Path

import structlog
import torch

from service.model.kernels import Kernels
from service.model.native.attention import NativeAttention
from service.model.native.build import BuildFailed, build_library
from service.model.native.elementwise import NativeElementwise
from service.model.native.linear import NativeLinear
from service.model.native.terms import NativeTerms
from service.model.openmp import openmp_runtime
from service.model.twins import wrong_kernel

log = structlog.get_logger(__name__)

_SOURCE = Path(__file__).with_name("kernels.cpp")
DTYPES = (torch.float32, torch.bfloat16)


def load_native(folder: Path, dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """None where there are no such kernels, or they do not do what their twins do."""
    if device.type != "cpu" or dtype not in DTYPES:
        return None
    if openmp_runtime() is None:
        log.warning("native_kernels_missing", reason="torch has no OpenMP runtime here")
        return None
    try:
        library = ctypes.CDLL(str(build_library(_SOURCE, folder)))
    except (BuildFailed, OSError) as error:
        log.warning("native_kernels_missing", reason=str(error))
        return None
    native = Kernels(
        NativeTerms(library, dtype),
        NativeAttention(library, dtype),
        NativeLinear(library, dtype),
        NativeElementwise(library, dtype),
    )
    if wrong := wrong_kernel(native, device):
        log.warning("native_kernel_wrong", kernel=wrong, reason="it differs from its twin")
        return None
    return native
