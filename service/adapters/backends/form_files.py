"""`SharedForms` in a folder: `<folder>/<name>`, complete in one rename."""

import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from service.adapters import durable
from service.adapters.backends.contents import Stored
from service.adapters.forms import FORM_NAME
from service.adapters.presence import store_in
from service.errors import StoreUnavailable


class FormFiles:
    def __init__(self, folder: Path, temporary: Path) -> None:
        """Both on one disk; `temporary` is this process's own."""
        self._folder = folder
        self._temporary = temporary

    def listing(self) -> Mapping[str, Stored]:
        found = {}
        with store_in(self._folder.parent):
            for path in self._folder.iterdir() if self._folder.is_dir() else ():
                if FORM_NAME.fullmatch(path.name):
                    with suppress(FileNotFoundError):  # Somebody may drop it meanwhile.
                        status = path.stat()
                        found[path.name] = Stored(status.st_size, status.st_mtime)
        return found

    def fetch(self, name: str, target: Path) -> bool:
        try:
            source = (self._folder / name).open("rb")
        except OSError:
            return False
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        return True

    def put(self, name: str, compiled: Path) -> None:
        draft = self._temporary / f"form-{uuid.uuid4().hex}"
        try:
            with durable.disk_full_is_store_full():
                self._folder.mkdir(exist_ok=True)
                shutil.copyfile(compiled, draft)
                # Not brought to disk: what a crash tears is found out by its checksum.
                draft.replace(self._folder / name)
        except OSError as error:
            raise StoreUnavailable("The folder of shared forms cannot be written.") from error
        finally:
            draft.unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable("The folder of shared forms cannot be written.") from error
