"""The identity of a version's `TEXT_FILES`."""

import hashlib
import json
from collections.abc import Mapping


def text_digest(files: Mapping[str, bytes]) -> str:
    """sha256 (hex) over the files by name; empty when there are none."""
    if not files:
        return ""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(json.dumps([name, len(data)]).encode() + b"\n")
        digest.update(data)
    return digest.hexdigest()
