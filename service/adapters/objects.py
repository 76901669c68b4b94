"""What the original of a version looks like wherever it lies: its used files and a summary."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from service.adapters.compiling import CompileOutcome
from service.adapters.manifest import Manifest

RECORD = "record.json"
"""The summary; it appears last, so an original that has one is complete."""
DIGEST = re.compile(r"[0-9a-f]{64}")


def used_files(outcome: CompileOutcome) -> Iterator[Path]:
    """Those that the version consists of, where they lie now."""
    yield from (outcome.folder / name for name in outcome.files)
    yield from outcome.text_files


def encode_manifest(manifest: Manifest) -> bytes:
    return json.dumps(manifest.to_json()).encode()


def decode_manifest(data: bytes) -> Manifest | None:
    """None when it is damaged."""
    try:
        return Manifest.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
