"""The text side of the compiler alone: a base folder, an upload's files, what comes out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.adapters.limits import AdapterLimits
from service.compiler.job import Job
from service.compiler.own_text import OwnText, read_text
from service.compiler.refusals import Refusals
from service.errors import AdapterRefused, Refusal
from tests.fakes import base_description


def write_files(folder: Path, files: dict[str, Any]) -> Path:
    """Names to text, bytes or JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)
    return folder


def read(
    base: Path, own: Path, *, vocab_size: int = 300, is_stored: bool = False, **limits: int
) -> tuple[OwnText, tuple[Refusal, ...]]:
    description = replace(base_description(), folder=str(base), vocab_size=vocab_size)
    job = Job(str(own), "", description, AdapterLimits(**limits), False, is_stored)
    names = tuple(sorted(path.name for path in own.iterdir()))
    refusals = Refusals(50)
    text = read_text(own, names, job, refusals)
    try:
        refusals.raise_if_any()
    except AdapterRefused as error:
        return text, error.refusals
    return text, ()
