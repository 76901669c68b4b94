"""A checksum behind the compiled form, so that a damaged cache file is rebuilt and never served.

compiled form | magic (8 bytes) | CRC-32 of everything before the magic (u32 LE)
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"RPTRSEAL"
_TRAILER = struct.Struct("<8sI")
_CHUNK_BYTES = 1 << 20


def copy_sealed(source: Path, target: BinaryIO) -> None:
    checksum = 0
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
            target.write(chunk)
    target.write(_TRAILER.pack(_MAGIC, checksum))


def is_intact(file: BinaryIO, payload_bytes: int) -> bool:
    """`file` stands at the first byte of the payload, as `read_header` leaves it."""
    num_bytes = file.tell() + payload_bytes
    file.seek(0)
    checksum = 0
    while num_bytes > 0:
        chunk = file.read(min(_CHUNK_BYTES, num_bytes))
        if not chunk:
            return False
        checksum = zlib.crc32(chunk, checksum)
        num_bytes -= len(chunk)
    return file.read() == _TRAILER.pack(_MAGIC, checksum)
