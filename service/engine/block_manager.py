"""Which KV blocks belong to whom. Counts only; the tensors are `model/kv_store.py`'s."""

from collections import OrderedDict
from collections.abc import Sequence as Many

from service.base import LengthClasses
from service.engine.prefix_cache import PrefixCache
from service.engine.sequence import Sequence


class BlockManager:
    """Hands out fixed-size blocks, the same one to several sequences if they begin alike.

    Invariant: a block is free, or idle (nobody's, but its content may be found again), or held by
    one or more sequences; only blocks with one holder that are not in the cache are written.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        has_prefix_cache: bool = False,
        length_classes: LengthClasses | None = None,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_queried = self.num_hit = 0
        """Positions of started sequences that were looked for in the prefix cache, and found."""
        self._cache = PrefixCache(block_size, length_classes) if has_prefix_cache else None
        self._free = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Least recently held first."""
        self._num_holders = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free) + len(self._idle)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def is_writable(self, block: int) -> bool:
        return self._num_holders[block] == 1 and (self._cache is None or block not in self._cache)

    def find_start(self, sequence: Sequence) -> list[int] | None:
        """Full blocks of others, or of its own past, that `sequence` may begin with now.

        None when there is no room for the rest of it and one more token.
        """
        num_needed = self.blocks_for(sequence.num_tokens + 1)
        shared: list[int] = []
        if self._cache is not None and self._uses_cache(sequence):
            if not self._cache.may_have(sequence, num_needed - self.num_free):
                return None
            shared = self._cache.find(sequence)
        num_available = self.num_free - sum(block in self._idle for block in shared)
        return shared if num_needed - len(shared) <= num_available else None

    def start(self, sequence: Sequence, shared: Many[int]) -> None:
        """Give `sequence` its known positions, the first of them in what `find_start` found."""
        for block in shared:
            self._idle.pop(block, None)
            self._num_holders[block] += 1
        sequence.block_table.extend(shared)
        self.grow(sequence, sequence.num_tokens)
        if self._uses_cache(sequence):
            self.num_queried += sequence.num_tokens
            self.num_hit += len(shared) * self.block_size

    def publish(self, sequence: Sequence, first_position: int) -> None:
        """What was computed from `first_position` on may be used by others from now on."""
        if self._cache is not None:
            self._cache.publish(sequence, first_position)

    def can_grow(self, sequence: Sequence, num_tokens: int) -> bool:
        return self._missing(sequence, num_tokens) <= self.num_free

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give `sequence` the blocks of positions `0 .. num_tokens - 1`; ask `can_grow` first."""
        for _ in range(self._missing(sequence, num_tokens)):
            sequence.block_table.append(self._take())

    def free(self, sequence: Sequence) -> None:
        """The end of a chain goes first when room is needed: what is before it stays of use."""
        for block in reversed(sequence.block_table):
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._release(block)
        sequence.block_table.clear()

    def _uses_cache(self, sequence: Sequence) -> bool:
        """A prompt that is scored needs the logits of all its rows."""
        return self._cache is not None and not sequence.needs_every_row

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            assert self._cache is not None
            self._cache.forget(block)
        self._num_holders[block] = 1
        return block

    def _release(self, block: int) -> None:
        if self._cache is not None and block in self._cache:
            self._idle[block] = None
        else:
            self._free.append(block)

    def _missing(self, sequence: Sequence, num_tokens: int) -> int:
        return max(0, self.blocks_for(num_tokens) - len(sequence.block_table))
