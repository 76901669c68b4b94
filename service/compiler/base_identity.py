"""Does the config say that the adapter was trained on the base that is served?"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.base import BaseDescription

_LOCAL = re.compile(r"[/~.]|[A-Za-z]:[/\\]|.*\\|.*/.*/")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def base_disagreements(
    config: dict[str, Any], base: BaseDescription
) -> tuple[tuple[str, str], ...]:
    """(field, sentence) pairs. Local paths and what cannot be compared count as unknown."""
    return (*_name_disagreement(config, base), *_revision_disagreement(config, base))


def _name_disagreement(config: dict[str, Any], base: BaseDescription) -> Iterator[tuple[str, str]]:
    claimed = config.get("base_model_name_or_path")
    if not isinstance(claimed, str) or not claimed or _LOCAL.match(claimed):
        return
    if _last_part(claimed) not in {_last_part(name) for name in _known_names(base)}:
        field = "base_model_name_or_path"
        yield field, f"{field} is {claimed[:200]!r}, but the served base is {base.name!r}."


def _revision_disagreement(
    config: dict[str, Any], base: BaseDescription
) -> Iterator[tuple[str, str]]:
    claimed, served = config.get("revision"), Path(base.folder).name
    if not isinstance(claimed, str) or not _COMMIT.fullmatch(claimed):
        return
    if _COMMIT.fullmatch(served) and claimed != served:
        yield "revision", f"revision is {claimed!r}, but the served base is {served!r}."


def _known_names(base: BaseDescription) -> Iterator[str]:
    folder = Path(base.folder)
    yield base.name
    yield folder.name
    # The layout of the hub's cache: models--<owner>--<model>/snapshots/<commit>.
    yield from (part.replace("--", "/") for part in folder.parts if part.startswith("models--"))
    try:
        origin = json.loads((folder / "config.json").read_bytes()).get("_name_or_path")
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(origin, str) and origin:
        yield origin


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
