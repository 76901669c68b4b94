"""Where replicas tell each other how their imports go.

Nothing of it is the truth, and all of it may be gone: an import that is over has left a version or
nothing, and one that is not is only known for sure by the replica that runs it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    record: Record
    is_alive: bool
    """Whether its replica has lately said so; of an import that is over it does not matter."""


class ImportBoard(Protocol):
    """Raises `StoreUnavailable` while the others cannot be reached."""

    async def tell(self, import_id: str, tenant: str, record: Record) -> bool:
        """Again and again while it runs; whether somebody asks to stop it."""

    async def get(self, import_id: str) -> Notice | None: ...

    async def of_tenant(self, tenant: str) -> Sequence[Notice]:
        """The latest ones."""

    async def ask_to_stop(self, import_id: str) -> None: ...


class NoBoard:
    """Of a process that is alone."""

    async def tell(self, import_id: str, tenant: str, record: Record) -> bool:  # noqa: ARG002
        return False

    async def get(self, import_id: str) -> Notice | None:  # noqa: ARG002
        return None

    async def of_tenant(self, tenant: str) -> Sequence[Notice]:  # noqa: ARG002
        return ()

    async def ask_to_stop(self, import_id: str) -> None: ...
