"""The few file operations that must survive a crash, each visiting its fail points.

Nothing becomes visible before its bytes are on disk: write, fsync, then one atomic rename or link,
then fsync of the folder that gained the name.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from service.adapters.failpoints import failpoint
from service.errors import StoreFull

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def disk_full_is_store_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreFull("The disk of the adapter store is full.") from error
        raise


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, label: str, write: Callable[[BinaryIO], object]) -> None:
    """Create `path` with what `write` writes and bring it to disk."""
    failpoint(label, "before_write")
    with path.open("wb") as file:
        write(file)
        failpoint(label, "after_write")
        file.flush()
        _fsync(file, label)


def sync_file(path: Path, label: str) -> None:
    """Bring a file that somebody else wrote to disk."""
    failpoint(label, "before_write")
    failpoint(label, "after_write")
    with path.open("rb") as file:
        _fsync(file, label)


def rename(source: Path, target: Path, label: str) -> None:
    """Atomically put a complete file or folder in its place."""
    _publish(label, target, lambda: source.replace(target))


def create_once(source: Path, target: Path, label: str) -> None:
    """Give a complete file its final name; raises FileExistsError when the name is taken."""
    try:
        _publish(label, target, lambda: os.link(source, target))
    finally:
        source.unlink(missing_ok=True)


def put_aside(folder: Path, aside: Path) -> None:
    """Make `folder` vanish from its place in one step, and stay whole elsewhere on its disk."""
    failpoint("remove", "before_rename")
    folder.replace(aside)
    failpoint("remove", "after_rename")
    fsync_folder(aside.parent)
    fsync_folder(folder.parent)


def remove_tree(folder: Path, doomed: Path) -> None:
    """Delete `folder`, which nobody sees half deleted: it becomes `doomed` first."""
    folder.replace(doomed)
    fsync_folder(folder.parent)
    shutil.rmtree(doomed, ignore_errors=True)
    failpoint("remove", "after_delete")


def _publish(label: str, target: Path, make_visible: Callable[[], object]) -> None:
    failpoint(label, "before_rename")
    make_visible()
    failpoint(label, "after_rename")
    failpoint(label, "before_dir_fsync")
    fsync_folder(target.parent)
    failpoint(label, "after_dir_fsync")


def _fsync(file: BinaryIO, label: str) -> None:
    failpoint(label, "before_fsync")
    os.fsync(file.fileno())
    failpoint(label, "after_fsync")
