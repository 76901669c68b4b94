"""The Triton kernels as tests use them: on a GPU if there is one, else in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
# The interpreter has no product of bfloat16 matrices.
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if HAS_GPU else [])]
