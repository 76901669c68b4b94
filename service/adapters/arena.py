"""Where in a byte arena a slot lies: first-fit runs of pages. Arithmetic only, no memory."""

from bisect import insort
from dataclasses import dataclass

PAGE_BYTES = 64 << 10
"""What the smallest slot takes."""


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    offset: int
    """Bytes, a multiple of the page size."""
    num_bytes: int


class PageArena:
    """Invariant: free and taken extents tile the arena; neighbouring free extents are merged."""

    def __init__(self, num_bytes: int, page_bytes: int = PAGE_BYTES) -> None:
        self.page_bytes = page_bytes
        self.num_bytes = num_bytes // page_bytes * page_bytes
        self._free = [Extent(0, self.num_bytes)] if self.num_bytes else []

    def round_up(self, num_bytes: int) -> int:
        return -(-num_bytes // self.page_bytes) * self.page_bytes

    def fits_empty(self, num_bytes: int) -> bool:
        return self.round_up(num_bytes) <= self.num_bytes

    @property
    def num_free(self) -> int:
        return sum(extent.num_bytes for extent in self._free)

    def copy(self) -> "PageArena":
        twin = PageArena(0, self.page_bytes)
        twin.num_bytes, twin._free = self.num_bytes, list(self._free)
        return twin

    def can_allocate(self, num_bytes: int) -> bool:
        needed = self.round_up(num_bytes)
        return any(extent.num_bytes >= needed for extent in self._free)

    def allocate(self, num_bytes: int) -> Extent | None:
        """The first run of free pages that holds `num_bytes`; None when no run is long enough."""
        needed = self.round_up(num_bytes)
        for index, extent in enumerate(self._free):
            if extent.num_bytes >= needed:
                rest = Extent(extent.offset + needed, extent.num_bytes - needed)
                self._free[index : index + 1] = [rest] if rest.num_bytes else []
                return Extent(extent.offset, needed)
        return None

    def free(self, extent: Extent) -> None:
        insort(self._free, extent)
        merged: list[Extent] = []
        for one in self._free:
            if merged and merged[-1].offset + merged[-1].num_bytes == one.offset:
                merged[-1] = Extent(merged[-1].offset, merged[-1].num_bytes + one.num_bytes)
            else:
                merged.append(one)
        self._free = merged
