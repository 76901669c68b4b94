"""Where the terms of every slot lie, for all sites: one tensor on the device and its mirror here.

A slot is filled or emptied site by site on the host and copied to the device once, before the next
step reads it. What a captured graph holds on to is replaced only when something outgrows it, and
`generation` tells.
"""

from collections.abc import Sequence

import torch

from service.model.triton.term_kernels import ENTRY
from service.operator.terms import Terms

_ENTRY = ENTRY.value
_MIN_SLOTS, _MIN_RANK = 64, 64


class TermTables:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._num_sites = 0
        self._changed: set[int] = set()
        self._host = torch.zeros(_MIN_SLOTS, 0, _ENTRY, dtype=torch.int64)
        self.entries = self._host.to(device)
        """`[slots, sites, ENTRY]`, as the kernels read it; true after `flush`."""
        self.max_rank = _MIN_RANK
        """Of any slot at any site, and room for more."""
        self.generation = 0

    def new_site(self) -> "TermTable":
        self._num_sites += 1
        return TermTable(self, self._num_sites - 1)

    def write(self, slot: int, site: int, entry: Sequence[int], rank: int) -> None:
        self._grow(slot, rank)
        self._host[slot, site] = torch.tensor(entry)
        self._changed.add(slot)

    def clear(self, slot: int, site: int) -> None:
        if slot < len(self._host) and site < self._host.shape[1]:
            self._host[slot, site] = 0
            self._changed.add(slot)

    def flush(self) -> None:
        """Before a step reads them."""
        self._grow(0, 0)
        if self.entries.shape != self._host.shape:
            self.entries = self._host.to(self._device)
            self.generation += 1
        else:
            for slot in self._changed:
                self.entries[slot].copy_(self._host[slot])
        self._changed.clear()

    def _grow(self, slot: int, rank: int) -> None:
        num_slots, num_sites = self._host.shape[:2]
        if slot >= num_slots or num_sites < self._num_sites:
            larger = max(num_slots, 1 << slot.bit_length())
            grown = torch.zeros(larger, self._num_sites, _ENTRY, dtype=torch.int64)
            grown[:num_slots, :num_sites] = self._host
            self._host = grown
        if rank > self.max_rank:
            self.max_rank = 1 << (rank - 1).bit_length()
            self.generation += 1


class TermTable:
    """Of one site."""

    def __init__(self, tables: TermTables, site: int) -> None:
        self._tables = tables
        self._site = site

    @property
    def entries(self) -> torch.Tensor:
        """`[slots, ENTRY]`, with gaps between the slots."""
        return self._tables.entries[:, self._site]

    def set(self, slot: int, terms: Terms) -> None:
        rank = 0 if terms.a is None else len(terms.a)
        strides = (0, 0) if terms.b is None else terms.b.stride()
        tensors = (terms.a, terms.b, terms.c, terms.d)
        addresses = (0 if one is None else one.data_ptr() for one in tensors)
        self._tables.write(slot, self._site, (*addresses, rank, *strides, 0), rank)

    def clear(self, slot: int) -> None:
        self._tables.clear(slot, self._site)
