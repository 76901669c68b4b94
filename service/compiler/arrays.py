"""Numpy views on tensors of mapped files: nothing is read before it is used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from service.adapters.safetensors_header import TensorInfo
from service.base import TensorLocation

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **{name: np.dtype(name) for name in ("float64", "complex64", "int64", "int32", "bool")},
}
CHUNK_ELEMENTS = 1 << 20
"""Bounds the private memory of everything that walks over a tensor."""

_EXPONENTS = {4: (np.uint32, 0x7F800000), 2: (np.uint16, 0x7C00)}
_BF16_EXPONENT = 0x7F80


class MappedFile:
    """Read-only; the pages belong to the page cache, not to this process."""

    def __init__(self, path: Path) -> None:
        self._bytes: Array = np.memmap(path, dtype=np.uint8, mode="r")

    def raw(self, place: TensorInfo | TensorLocation) -> Array:
        """The bytes as they lie, whatever their dtype."""
        return self._bytes[place.offset : place.offset + place.num_bytes]

    def view(self, place: TensorInfo | TensorLocation) -> Array:
        return self.raw(place).view(DTYPES[place.dtype]).reshape(place.shape)


def row_chunks(array: Array) -> Iterator[slice]:
    """Slices over the first axis, each of about CHUNK_ELEMENTS elements."""
    width = max(1, array.size // max(1, array.shape[0]))
    step = max(1, CHUNK_ELEMENTS // width)
    return (slice(start, start + step) for start in range(0, array.shape[0], step))


def is_finite(array: Array) -> bool:
    """No NaN, no infinity; looks at the exponent bits, which is much faster for bfloat16."""
    unsigned, exponent = _EXPONENTS[array.dtype.itemsize]
    if array.dtype == ml_dtypes.bfloat16:
        exponent = _BF16_EXPONENT
    bits = array.reshape(-1).view(unsigned)
    mask = np.array(exponent, dtype=unsigned)
    return not any(
        bool(((bits[chunk] & mask) == mask).any()) for chunk in row_chunks(bits) if bits.size
    )


def is_copy(copy: Array, original: Array) -> bool:
    """The same values, as far as the copy's dtype can hold them."""
    return copy.shape == original.shape and all(
        bool(np.array_equal(copy[rows], original[rows].astype(copy.dtype)))
        for rows in row_chunks(original)
    )
