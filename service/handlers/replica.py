"""Where to look for what this replica has where. Any thread may look at any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.adapters.arena import PAGE_BYTES
from service.adapters.registry import AdapterRegistry
from service.core import EngineStats, TierStats
from service.engine.activity import Activity


class Engine(Protocol):
    """The part of `EngineClient` that is looked at."""

    def stats(self) -> EngineStats: ...

    def activity(self) -> Activity: ...


class Disk(Protocol):
    """The part of `DiskCache`."""

    @property
    def revision(self) -> int:
        """Grows with every change of `digests()`."""

    def digests(self) -> Sequence[str]: ...


class Pins(Protocol):
    """The part of `PinBoard`."""

    @property
    def revision(self) -> int:
        """Grows with every change of what is held for whom."""

    def holds(self, name: str, digest: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Replica:
    engine: Engine
    registry: AdapterRegistry
    disk: Disk
    pins: Pins


def max_on_device(device: TierStats, mean_bytes: float) -> int:
    """How many adapters can be on the device at once.

    It has a budget of bytes, not of slots, so no number is true of every mix. This one is of the
    mix as it is: those that are there, and as many more as the free bytes hold at `mean_bytes`, the
    mean size of all that can be asked for. It is reached when one more would need an eviction.
    """
    num_pages = max(1, -(-int(mean_bytes) // PAGE_BYTES))
    num_free = max(0, device.budget_bytes - device.num_bytes)
    return device.num_adapters + num_free // (num_pages * PAGE_BYTES)
