"""Weighted sums of low-rank adapters as versions of their own: `W + sum_i weight_i * delta_i`."""

import hashlib
from collections.abc import Iterable

from service.core import AdapterPart, AdapterRef

_DOMAIN = b"repertoire: weighted sum\n"
"""In front of what is hashed, so that no content has the digest of a sum."""


def merge_parts(parts: Iterable[AdapterPart]) -> tuple[AdapterPart, ...]:
    """One part per content, in the order of the digests: a sum has one form however it is named."""
    refs: dict[str, AdapterRef] = {}
    weights: dict[str, float] = {}
    for part in parts:
        digest = part.ref.digest
        refs.setdefault(digest, part.ref)
        weights[digest] = weights.get(digest, 0.0) + part.weight
    return tuple(AdapterPart(refs[digest], weights[digest]) for digest in sorted(refs))


def sum_ref(parts: tuple[AdapterPart, ...]) -> AdapterRef:
    """The version that the merged `parts` make: for caches, slots and keys like any other."""
    identity = hashlib.sha256(_DOMAIN)
    for part in parts:
        identity.update(f"{part.ref.digest} {part.weight.hex()}\n".encode())
    return AdapterRef(
        name=" + ".join(f"{part.weight:g}*{part.ref.label}" for part in parts),
        version=0,
        digest=identity.hexdigest(),
        # Stacked factors need no more than the factors one by one; what they save stays unused,
        # so that the size is known without reading a single header.
        compiled_bytes=sum(part.ref.compiled_bytes for part in parts),
        parts=parts,
    )
