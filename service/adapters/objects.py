"""The originals of a store by digest: `<folder>/<digest>/` with the used files and a summary."""

import json
import re
from pathlib import Path

from service.adapters import durable
from service.adapters.compiling import CompileOutcome
from service.adapters.manifest import Manifest

RECORD = "record.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ObjectFolder:
    """An object appears complete in one rename and is never changed afterwards."""

    def __init__(self, folder: Path, trash: Path) -> None:
        self._folder = folder
        self._trash = trash

    def digests(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if _DIGEST.fullmatch(path.name))

    def path(self, digest: str) -> Path:
        return self._folder / digest

    def manifest(self, digest: str) -> Manifest | None:
        """None when there is no such object, or its summary is damaged."""
        try:
            return Manifest.from_json(json.loads((self.path(digest) / RECORD).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def num_bytes(self, digest: str) -> int:
        return sum(path.stat().st_size for path in self.path(digest).iterdir())

    def add(self, outcome: CompileOutcome, draft: Path) -> None:
        """Moves the used files out of where they were staged; `draft` lies on the same disk."""
        target = self.path(outcome.manifest.digest)
        if target.exists():
            return
        draft.mkdir()
        for path in (*(outcome.folder / name for name in outcome.files), *outcome.text_files):
            path.rename(draft / path.name)
            durable.sync_file(draft / path.name, "object.file")
        data = json.dumps(outcome.manifest.to_json()).encode()
        durable.write_file(draft / RECORD, "object.record", lambda file: file.write(data))
        durable.fsync_folder(draft)
        durable.rename(draft, target, "object")

    def remove(self, digest: str) -> None:
        if self.path(digest).exists():
            durable.remove_tree(self.path(digest), self._trash)
