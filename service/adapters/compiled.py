"""The compiled form of an adapter: one flat file whose payload is copied into a slot as it is.

    magic (8 bytes) | header length (u64 LE) | header (JSON) | zeros up to ALIGNMENT | payload

The header says per site which terms of the operator (`service/operator/terms.py`) the version has
there and where they lie in the payload. Tensors start at multiples of ALIGNMENT, so that views on a
slot are aligned too; sites may share one. Reading needs no torch, no peft and no parsing of
anything a client sent.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from service.errors import AdapterLoadFailed

MAGIC = b"RPTRTERM"
ALIGNMENT = 64
COMPILER_VERSION = 2
"""Raised whenever the same upload would compile to other bytes."""
MAX_HEADER_BYTES = 64 << 20

_PREFIX = struct.Struct("<8sQ")


@dataclass(frozen=True, slots=True)
class TermView:
    """One tensor of the payload."""

    dtype: str
    """torch's name of it, e.g. `float32`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the payload."""


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """What one version does at one site; an absent term costs nothing."""

    site: str
    terms: dict[str, TermView] = field(default_factory=dict)
    """By the field names of `service.operator.terms.Terms`."""
    parameters: dict[str, TermView] = field(default_factory=dict)
    """Parameters of the base's module, by name, that the version replaces for its own rows."""
    layer: Any = None
    """peft's own layer as plain JSON (`service/operator/snapshot.py`); it replaces the module."""
    layer_tensors: tuple[TermView, ...] = ()


@dataclass(frozen=True, slots=True)
class CompiledHeader:
    digest: str
    fingerprint: str
    """Of the base the terms were compiled for."""
    dtype: str
    """The run dtype."""
    payload_bytes: int
    sites: tuple[SiteTerms, ...]
    tables: dict[str, TermView] = field(default_factory=dict)
    """What acts beside the sites: `prefix.<layer>.key`, …; see `service/operator/tables.py`."""
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
    raw = json.loads(file.read(length))
    if raw.get("compiler_version") != COMPILER_VERSION:
        raise AdapterLoadFailed("The compiled form was made by another compiler version.")
    file.seek(align(_PREFIX.size + length))
    return _decode(raw)


def _decode(raw: dict[str, Any]) -> CompiledHeader:
    sites = tuple(
        SiteTerms(
            site=site["site"],
            terms=_views(site["terms"]),
            parameters=_views(site["parameters"]),
            layer=site["layer"],
            layer_tensors=tuple(map(_view, site["layer_tensors"])),
        )
        for site in raw.pop("sites")
    )
    return CompiledHeader(sites=sites, tables=_views(raw.pop("tables")), **raw)


def _views(raw: dict[str, Any]) -> dict[str, TermView]:
    return {name: _view(view) for name, view in raw.items()}


def _view(raw: dict[str, Any]) -> TermView:
    return TermView(raw["dtype"], tuple(raw["shape"]), raw["offset"])
