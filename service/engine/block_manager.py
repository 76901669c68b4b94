"""Which KV blocks belong to whom. Counts only; the tensors are `model/kv_store.py`'s."""

from service.engine.sequence import Sequence


class BlockManager:
    """Hands out fixed-size blocks. Invariant: free + held by sequences = total."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def can_grow(self, sequence: Sequence, num_tokens: int) -> bool:
        return self._missing(sequence, num_tokens) <= len(self._free)

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give `sequence` the blocks of positions `0 .. num_tokens - 1`; ask `can_grow` first."""
        for _ in range(self._missing(sequence, num_tokens)):
            sequence.block_table.append(self._free.pop())

    def free(self, sequence: Sequence) -> None:
        self._free.extend(reversed(sequence.block_table))
        sequence.block_table.clear()

    def _missing(self, sequence: Sequence, num_tokens: int) -> int:
        return max(0, self.blocks_for(num_tokens) - len(sequence.block_table))
