"""A compiled adapter in host memory: its header and one block of bytes."""

import math
from dataclasses import dataclass
from typing import BinaryIO

import torch

from service.adapters.compiled import CompiledHeader, TermView, read_header
from service.errors import AdapterLoadFailed


@dataclass(frozen=True, slots=True)
class HostAdapter:
    header: CompiledHeader
    payload: torch.Tensor
    """`[payload_bytes]` uint8, pinned when the device is a GPU"""


def read_host_adapter(file: BinaryIO, pin_memory: bool = False) -> HostAdapter:
    """One read, straight into the tensor. Raises `AdapterLoadFailed` when bytes are missing."""
    header = read_header(file)
    payload = torch.empty(header.payload_bytes, dtype=torch.uint8, pin_memory=pin_memory)
    view = memoryview(payload.numpy())  # type: ignore[arg-type]
    num_read = 0
    while num_read < header.payload_bytes:
        count = file.readinto(view[num_read:])  # type: ignore[attr-defined]
        if not count:
            raise AdapterLoadFailed("The compiled form of the adapter is truncated.")
        num_read += count
    return HostAdapter(header, payload)


def view_of(extent: torch.Tensor, view: TermView) -> torch.Tensor:
    """One tensor of the payload `extent`, without a copy."""
    dtype: torch.dtype = getattr(torch, view.dtype)
    num_bytes = math.prod(view.shape) * dtype.itemsize
    return extent[view.offset : view.offset + num_bytes].view(dtype).view(view.shape)
