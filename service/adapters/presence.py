"""Whether a store's folder is there. It may lie on a file system that goes away while a process
runs; an empty mount point is no store that has lost everything."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import StoreUnavailable

_AWAY = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ENODEV,
        errno.ENXIO,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
    }
)
"""What systems say of a disk or a server that does not answer."""


def check_there(folder: Path) -> None:
    """Raises `StoreUnavailable`."""
    if not _is_there(folder):
        raise _unavailable()


@contextmanager
def store_in(folder: Path) -> Iterator[None]:
    """Around work in `folder`, or below it: an error because it is not there becomes
    `StoreUnavailable`, all others stay what they are."""
    try:
        yield
    except OSError as error:
        if error.errno in _AWAY or not _is_there(folder):
            raise _unavailable() from error
        raise


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The adapter store cannot be reached now; ask again soon.")
