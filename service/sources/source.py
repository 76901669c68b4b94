"""What a source is, what it writes to, and what it tells when it is done."""

from typing import Protocol

from service.adapters.files import CONFIG, READ_FILES, WEIGHTS
from service.errors import SourceNotFound, SourceRefused

IDLE_S = 30.0
"""Without a byte, a connection counts as broken."""


class Target(Protocol):
    """Where one fetch lies: some files, or one archive, one after the other.

    Its calls raise what ends the fetch: `UploadTooLarge`, `QuotaExceeded`, `StoreFull`, …
    """

    def announce(self, num_bytes: int) -> None:
        """All that will come, as far as the source says so beforehand."""

    async def begin(self, file: str | None) -> None:
        """None is the archive."""

    async def write(self, data: bytes) -> None:
        """Returns when more may be read: it also sets the pace."""

    async def rewind(self) -> None:
        """What was written of this file or archive goes: it cannot be continued."""

    async def end(self) -> None:
        """The file or archive is whole."""


class Source(Protocol):
    """An adapter that lies somewhere, and that the operator allows to be fetched."""

    shown: str
    """What may be written down of it."""
    scheme: str

    async def fetch(self, target: Target) -> str:
        """Returns what the source calls the state that was fetched, empty if nothing.

        Raises `SourceRefused`, `SourceFailed`, or what the target raises.
        """


def adapter_files(names: "set[str]", where: str) -> list[str]:
    """Those of a folder that mean something. Raises `SourceNotFound` if it is no adapter."""
    missing = sorted({CONFIG, WEIGHTS} - names)
    if missing:
        raise SourceNotFound(f"There is no {' and no '.join(missing)} in {where}.")
    return sorted(names & READ_FILES)


def refused(what: str, flag: str) -> SourceRefused:
    """A sentence that tells the operator what to do."""
    return SourceRefused(f"{what} is not allowed as a source here; an operator may: {flag}.")
