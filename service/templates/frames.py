"""JSON messages over a pipe: length (u32 LE), then UTF-8 in which a lone surrogate may stand."""

import json
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<I")
MAX_BYTES = 256 << 20


def write_frame(pipe: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def read_frame(pipe: BinaryIO, max_bytes: int = MAX_BYTES) -> dict[str, Any] | None:
    """None at the end of the pipe, or when what it holds is no message."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length) if length <= max_bytes else b""
    if len(data) < length:
        return None
    try:
        message = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
