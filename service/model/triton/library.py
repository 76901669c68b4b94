"""The kernels of a GPU. At start each is compared with its torch twin; where they differ, or there
is no Triton, the twins do the work alone."""

import structlog
import torch

from service.model.kernels import Kernels
from service.model.twins import wrong_kernel

log = structlog.get_logger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def load_triton(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """None where there are no such kernels, or they do not do what their twins do."""
    try:
        # torch's CUDA builds bring it, its others do not.
        from service.model.triton.attention import TritonAttention
        from service.model.triton.terms import TritonTerms
    except ImportError as error:
        log.warning("triton_kernels_missing", reason=str(error))
        return None
    if dtype not in DTYPES:
        return None
    found = Kernels(TritonTerms(dtype, device), TritonAttention(dtype, device))
    if wrong := wrong_kernel(found, device):
        log.warning("triton_kernel_wrong", kernel=wrong, reason="it differs from its twin")
        return None
    return found
