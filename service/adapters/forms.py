"""Files of compiled forms: `<folder>/<digest>-<variant>.terms`, each rebuildable."""

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

SUFFIX = ".terms"
FORM_NAME = re.compile(r"([0-9a-f]{64})-[0-9a-f]{16}" + re.escape(SUFFIX))


class Forms(Protocol):
    """Blocking."""

    def bytes_by_digest(self) -> Mapping[str, int]:
        """Of the forms for every base and run dtype."""

    def drop(self, digest: str) -> None:
        """Remove every form of this content."""


class FormFolder:
    """The forms in a cache folder, looked at without a base; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bytes_by_digest(self) -> Mapping[str, int]:
        sizes: Counter[str] = Counter()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if match := FORM_NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # Somebody may evict it meanwhile.
                    sizes[match[1]] += path.stat().st_size
        return sizes

    def drop(self, digest: str) -> None:
        for name in self.names(digest):
            (self._folder / name).unlink(missing_ok=True)

    def names(self, digest: str) -> list[str]:
        return [path.name for path in self._folder.glob(f"{digest}-*{SUFFIX}")]
