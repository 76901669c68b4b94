"""The native library as tests use it: built once per machine."""

import shutil

import pytest
import torch

from service.model.kernels import Kernels
from service.model.native.library import load_native
from tests.server import KERNELS

CPU = torch.device("cpu")


def native_of(dtype: torch.dtype) -> Kernels:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    native = load_native(KERNELS, dtype, CPU)
    assert native is not None, "it was built, and is wrong"
    return native
