"""The operator's row-wise terms on a GPU: any number of adapters, of any ranks, in two launches.

`term_kernels.py` has the arithmetic, `operator/terms.py` is its twin.
"""

from collections.abc import Sequence

import torch

from service.model.triton import term_kernels as kernels
from service.operator.terms import Terms

_ENTRY = kernels.ENTRY.value
_TILE_ROWS = 16
"""The smallest matrix that tensor cores take; a decode row of its own adapter fills one of them."""
_BLOCK_RANK = 16
_BLOCK_IN, _BLOCK_OUT = 128, 128
_INPUTS_OF_A_PART = 1024


class TileTable:
    """Rows of a step in the kernels' layout; made once and read at every site."""

    def __init__(self, runs: Sequence[tuple[int, int, int]], device: torch.device) -> None:
        """(slot, first row, one past the last row) of each."""
        tiles = [
            (slot, first, min(first + _TILE_ROWS, stop))
            for slot, start, stop in runs
            for first in range(start, stop, _TILE_ROWS)
        ]
        self.tiles = torch.tensor(tiles, dtype=torch.int32).view(-1, 3).to(device)


class TermTable:
    """Where each slot's terms lie, for one site. The tensors are kept alive by the site's forms."""

    def __init__(self, device: torch.device) -> None:
        self.entries = torch.zeros(8, _ENTRY, dtype=torch.int64, device=device)
        self.max_rank = 0
        self.num_in = self.num_out = 0
        """Widths of the site; the first is 0 as long as no slot reads the site's input."""

    def set(self, slot: int, terms: Terms) -> None:
        while slot >= len(self.entries):
            self.entries = torch.cat([self.entries, torch.zeros_like(self.entries)])
        rank = 0 if terms.a is None else len(terms.a)
        strides = (0, 0) if terms.b is None else terms.b.stride()
        tensors = (terms.a, terms.b, terms.c, terms.d)
        addresses = (0 if one is None else one.data_ptr() for one in tensors)
        self.entries[slot] = torch.tensor([*addresses, rank, *strides, 0])
        self.max_rank = max(self.max_rank, rank)
        if terms.a is not None:
            self.num_in = terms.a.shape[1]
        for outputs in (terms.b, terms.c, terms.d):
            if outputs is not None:
                self.num_out = len(outputs)

    def clear(self, slot: int) -> None:
        if slot < len(self.entries):
            self.entries[slot] = 0


class TritonTerms:
    max_run_rows = None

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self._device = device
        self._hidden = torch.empty(0, dtype=torch.float32, device=device)

    def table(self) -> TermTable:
        return TermTable(self._device)

    def runs(self, runs: Sequence[tuple[int, int, int]]) -> TileTable:
        return TileTable(runs, self._device)

    def takes(self, table: TermTable, num_rows: int, x: torch.Tensor, y: torch.Tensor) -> bool:
        return (
            y.dtype == x.dtype == self.dtype
            and y.numel() == num_rows * table.num_out
            and (x.numel() == num_rows * table.num_in or not table.num_in)
            and y.is_contiguous()
            and x.is_contiguous()
        )

    def add_to(self, table: TermTable, tiles: TileTable, x: torch.Tensor, y: torch.Tensor) -> None:
        """As `TermKernel` says."""
        num_tiles, num_in, num_out = len(tiles.tiles), table.num_in, table.num_out
        if not num_tiles:
            return
        num_rows = y.numel() // num_out
        splits = max(1, -(-num_in // _INPUTS_OF_A_PART))
        hidden = self._room(splits * num_rows * table.max_rank)
        common = (tiles.tiles, table.entries, len(table.entries), num_rows)
        sizes = {"SPLITS": splits, "TILE_ROWS": _TILE_ROWS, "BLOCK_RANK": _BLOCK_RANK}
        if table.max_rank:
            kernels.shrink[num_tiles, splits](
                x, hidden, *common, num_in, table.max_rank, **sizes, BLOCK_IN=_BLOCK_IN
            )
        kernels.expand[num_tiles, -(-num_out // _BLOCK_OUT)](
            hidden, y, *common, num_out, table.max_rank, **sizes, BLOCK_OUT=_BLOCK_OUT
        )

    def _room(self, size: int) -> torch.Tensor:
        if self._hidden.numel() < size:
            self._hidden = torch.empty(size, dtype=torch.float32, device=self._device)
        return self._hidden
