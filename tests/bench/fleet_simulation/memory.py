"""How much of the adapters a replica can have where."""

from dataclasses import dataclass

from service.core import AdapterRef

PAGE = 64 << 10
"""An adapter of a simulation takes one: only ratios matter, unless sizes are given."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by tier."""

    device: int
    host: int
    disk: int

    @classmethod
    def of(cls, device: int, host: int, disk: int) -> "Memory":
        """Adapters by tier."""
        return cls(device * PAGE, host * PAGE, disk * PAGE)


def make_refs(num_adapters: int) -> list[AdapterRef]:
    return [AdapterRef(f"a{i}", 1, f"d{i}", PAGE) for i in range(num_adapters)]
