"""The operator's row-wise terms on a GPU: any number of adapters, of any ranks, in two launches.

`term_kernels.py` has the arithmetic, `operator/terms.py` is its twin.
"""

from collections.abc import Sequence

import torch

from service.model.triton import term_kernels as kernels
from service.model.triton.term_tables import TermTable, TermTables

TILE_ROWS = 16
"""The smallest matrix that tensor cores take; a decode row of its own adapter fills one of them."""
_BLOCK_RANK = 16
_BLOCK_IN, _BLOCK_OUT = 128, 128
_INPUTS_OF_A_PART = 1024


class TritonTerms:
    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.tables = TermTables(device)
        self._device = device
        self._hidden = torch.empty(0, dtype=torch.float32, device=device)

    @property
    def generation(self) -> int:
        """Whoever captured a launch in an older one has to capture it again."""
        return self.tables.generation

    def table(self) -> TermTable:
        return self.tables.new_site()

    def runs(self, runs: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """`[tiles, 3]` int32, of (slot, first row, one past the last)."""
        self.tables.flush()
        tiles = [
            (slot, first, min(first + TILE_ROWS, stop))
            for slot, start, stop in runs
            for first in range(start, stop, TILE_ROWS)
        ]
        return torch.tensor(tiles, dtype=torch.int32).view(-1, 3).to(self._device)

    def takes(self, table: TermTable, num_rows: int, x: torch.Tensor, y: torch.Tensor) -> bool:
        return (
            y.dtype == x.dtype == self.dtype
            and y.numel() == num_rows * y.shape[-1]
            and x.numel() == num_rows * x.shape[-1]
            and y.is_contiguous()
            and x.is_contiguous()
        )

    def add_to(
        self, table: TermTable, tiles: torch.Tensor, x: torch.Tensor, y: torch.Tensor
    ) -> None:
        """As `TermKernel` says."""
        if not len(tiles):
            return
        num_in, num_out, max_rank = x.shape[-1], y.shape[-1], self.tables.max_rank
        num_rows = y.numel() // num_out
        splits = -(-num_in // _INPUTS_OF_A_PART)
        entries = table.entries
        hidden = self._room(splits * num_rows * max_rank)
        common = (tiles, entries, len(entries), entries.stride(0), num_rows)
        sizes = {"SPLITS": splits, "TILE_ROWS": TILE_ROWS, "BLOCK_RANK": _BLOCK_RANK}
        kernels.shrink[len(tiles), splits](
            x, hidden, *common, num_in, max_rank, **sizes, BLOCK_IN=_BLOCK_IN
        )
        kernels.expand[len(tiles), -(-num_out // _BLOCK_OUT)](
            hidden, y, *common, num_out, max_rank, **sizes, BLOCK_OUT=_BLOCK_OUT
        )

    def _room(self, size: int) -> torch.Tensor:
        if self._hidden.numel() < size:
            self._hidden = torch.empty(size, dtype=torch.float32, device=self._device)
            self.tables.generation += 1
        return self._hidden
