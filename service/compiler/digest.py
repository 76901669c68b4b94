"""The identity of a version: what it does, not how its files happen to be written."""

import hashlib
import json

from service.compiler.arrays import row_chunks
from service.compiler.terms import Plan


def content_digest(plan: Plan, text_digest: str) -> str:
    """sha256 (hex) over the canonical config, the tensors in the order of their names, and the

    version's own text; where that is empty the digest is that of the rest.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(plan.config, sort_keys=True, separators=(",", ":")).encode())
    for tensor in sorted(plan.tensors, key=lambda tensor: tensor.name):
        head = [tensor.name, tensor.dtype, list(tensor.array.shape)]
        digest.update(b"\n" + json.dumps(head).encode() + b"\n")
        for rows in row_chunks(tensor.array):
            digest.update(tensor.array[rows].tobytes())
    if text_digest:
        digest.update(b"\n" + json.dumps({"text": text_digest}).encode() + b"\n")
    return digest.hexdigest()
