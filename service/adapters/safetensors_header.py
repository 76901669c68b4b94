"""The header of a safetensors file, read with bounds and without touching the data.

The format's own rules are enforced: no duplicate names, data without holes or overlaps, exact
lengths. Knows nothing of adapters.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 16 << 20
ITEM_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
_MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<Q")


class MalformedFile(Exception):
    """`str(error)` is a sentence a client may see."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Absolute byte offset in the file."""
    num_bytes: int


def read_tensor_infos(path: Path) -> dict[str, TensorInfo]:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise MalformedFile("The file is too short to be a safetensors file.")
        length = _LENGTH.unpack(prefix)[0]
        if length > min(MAX_HEADER_BYTES, size - _LENGTH.size):
            raise MalformedFile("The header is longer than the file or than allowed.")
        raw = _decode(file.read(length))
    start = _LENGTH.size + length
    raw.pop("__metadata__", None)
    infos = {name: _tensor_info(name, entry, start) for name, entry in raw.items()}
    _check_layout(infos, start, size)
    return infos


def strict_json(data: bytes) -> Any:
    """JSON without what parsers disagree on: duplicate keys, NaN, unbounded nesting."""
    try:
        return json.loads(data, object_pairs_hook=_unique_pairs, parse_constant=_no_constant)
    except RecursionError:
        raise MalformedFile("The JSON is nested too deeply.") from None
    except ValueError:
        raise MalformedFile("The file is not valid JSON.") from None


def _decode(data: bytes) -> dict[str, Any]:
    raw = strict_json(data)
    if not isinstance(raw, dict):
        raise MalformedFile("The header is not a JSON object.")
    return raw


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _tensor_info(name: str, entry: Any, start: int) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise MalformedFile(f"The header entry of {name!r} is malformed.") from None
    if (
        set(entry) != {"dtype", "shape", "data_offsets"}
        or not isinstance(dtype, str)
        or dtype not in ITEM_SIZES
        or not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(_is_size(number) for number in (*shape, begin, end))
        or end - begin != math.prod(shape) * ITEM_SIZES[dtype]
    ):
        raise MalformedFile(f"The header entry of {name!r} is malformed.")
    return TensorInfo(dtype, tuple(shape), start + begin, end - begin)


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 48


def _check_layout(infos: dict[str, TensorInfo], start: int, size: int) -> None:
    position = start
    for info in sorted(infos.values(), key=lambda info: (info.offset, info.num_bytes)):
        if info.offset != position:
            raise MalformedFile("The tensors overlap or leave holes.")
        position += info.num_bytes
    if position != size:
        raise MalformedFile("The file's length does not match its header.")
