"""The numbers of the LoRA family, in float32 or wider and in bounded memory."""

import numpy as np

from service.compiler.arrays import DTYPES, Array, is_finite, row_chunks
from service.errors import AdapterRefused, Refusal


def dora_scale(weight: Array, a: Array, b: Array, scaling: float, magnitude: Array) -> Array:
    """`m / ||W + s B A||`, the norm over each row of the `[out, in]` weight."""
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    norm = np.empty(weight.shape[0], dtype=np.float64)
    for rows in row_chunks(weight):
        moved = weight[rows].astype(np.float32) + np.float32(scaling) * (wide_b[rows] @ wide_a)
        norm[rows] = np.sqrt(np.einsum("oi,oi->o", moved, moved, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        result: Array = (magnitude.astype(np.float64) / norm).astype(np.float32)
    return result


def scaled_b(site: str, b: Array, scaling: float, scale: Array | None, dtype: str) -> Array:
    """`B` with every factor folded in, rounded once."""
    factor = np.float64(scaling) if scale is None else scaling * scale.astype(np.float64)[:, None]
    with np.errstate(over="ignore"):
        result: Array = (b.astype(np.float64) * factor).astype(DTYPES[dtype])
    if not is_finite(result):
        message = f"B of {site!r} times its scaling does not fit into {dtype}."
        raise AdapterRefused((Refusal("out_of_range", site, message),))
    return result


def replaced_bias(
    *, old: Array | None, new: Array | None, lora: Array | None, scaling: float, scale: Array | None
) -> Array | None:
    """The `d` that turns `c * (W x + b_base)` into what peft adds; None when it is nothing."""
    if new is None and lora is None and (old is None or scale is None):
        return None
    total = _wide(new if new is not None else old)
    if lora is not None:
        total = total + scaling * _wide(lora)
    if old is not None:
        total = total - _wide(old) * (1.0 if scale is None else scale.astype(np.float64))
    result: Array = np.atleast_1d(total).astype(np.float32)
    return result


def _wide(array: Array | None) -> Array:
    return np.zeros(()) if array is None else array.astype(np.float64)
