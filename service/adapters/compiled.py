"""The compiled form of an adapter: one flat file whose payload is copied into a slot as it is.

    magic (8 bytes) | header length (u64 LE) | header (JSON) | zeros up to ALIGNMENT | payload

The header lists, per site, the terms of `y = c * base(x) + (x A^T) B^T + d` with their place in the
payload. Every tensor starts at a multiple of ALIGNMENT, so that views on a slot are aligned too.
Reading needs no torch, no peft and no parsing of anything a client sent.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from service.errors import AdapterLoadFailed

MAGIC = b"RPTRTERM"
ALIGNMENT = 64
COMPILER_VERSION = 1
"""Raised whenever the same upload would compile to other bytes."""
MAX_HEADER_BYTES = 64 << 20

_PREFIX = struct.Struct("<8sQ")


@dataclass(frozen=True, slots=True)
class TermView:
    """One tensor of the payload."""

    dtype: str
    """`float32`, `bfloat16` or `float16`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the payload."""


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """What one version does at one site; an absent term costs nothing."""

    site: str
    a: TermView | None = None
    """`[r, in]`"""
    b: TermView | None = None
    """`[out, r]`, scale folded in"""
    c: TermView | None = None
    """`[out]`, float32"""
    d: TermView | None = None
    """`[out]`, float32"""


@dataclass(frozen=True, slots=True)
class CompiledHeader:
    digest: str
    fingerprint: str
    """Of the base the terms were compiled for."""
    dtype: str
    """Of A and B."""
    payload_bytes: int
    sites: tuple[SiteTerms, ...]
    compiler_version: int = COMPILER_VERSION


def align(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def write_compiled(file: BinaryIO, header: CompiledHeader, chunks: Iterable[bytes]) -> None:
    """Write header and payload; `chunks` concatenated are the payload, padding included."""
    encoded = json.dumps(asdict(header), separators=(",", ":")).encode()
    file.write(_PREFIX.pack(MAGIC, len(encoded)))
    file.write(encoded)
    end = _PREFIX.size + len(encoded)
    file.write(b"\0" * (align(end) - end))
    for chunk in chunks:
        file.write(chunk)


def read_header(file: BinaryIO) -> CompiledHeader:
    """Read the header and leave `file` at the first byte of the payload.

    Raises `AdapterLoadFailed` when the file is not a compiled adapter of this compiler version.
    """
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or prefix[:8] != MAGIC:
        raise AdapterLoadFailed("The compiled form of the adapter is damaged.")
    length = _PREFIX.unpack(prefix)[1]
    if length > MAX_HEADER_BYTES:
        raise AdapterLoadFailed("The compiled form of the adapter is damaged.")
    header = _decode(json.loads(file.read(length)))
    if header.compiler_version != COMPILER_VERSION:
        raise AdapterLoadFailed("The compiled form was made by another compiler version.")
    file.seek(align(_PREFIX.size + length))
    return header


def _decode(raw: dict[str, Any]) -> CompiledHeader:
    sites = tuple(
        SiteTerms(site=site.pop("site"), **{name: _view(view) for name, view in site.items()})
        for site in raw.pop("sites")
    )
    return CompiledHeader(sites=sites, **raw)


def _view(raw: dict[str, Any] | None) -> TermView | None:
    if raw is None:
        return None
    return TermView(raw["dtype"], tuple(raw["shape"]), raw["offset"])
