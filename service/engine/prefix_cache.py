"""Which KV blocks can be used again: full ones, found by what lies in them and in all before them.

Equal keys mean equal keys and values. Adapters count by digest and only for the rows on which they
act, so a new version never finds what an older one left, and an aLoRA shares the base's blocks up
to its invocation.
"""

import hashlib
from array import array

from service.base import LengthClasses
from service.engine.sequence import Sequence


class PrefixCache:
    """Blocks by key and back. Who holds a block is the `BlockManager`'s to know."""

    def __init__(self, block_size: int, length_classes: LengthClasses | None = None) -> None:
        self._block_size = block_size
        self._length_classes = length_classes or LengthClasses()
        self._blocks: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    def may_have(self, sequence: Sequence, num_blocks: int) -> bool:
        """False when it surely has fewer of the sequence's first blocks; one look.

        Of all who wait, in every step, most have failed before at the last key they know.
        """
        keys = sequence.block_keys
        return num_blocks <= 0 or not keys or keys[min(num_blocks, len(keys)) - 1] in self._blocks

    def find(self, sequence: Sequence) -> list[int]:
        """Blocks that `sequence` may begin with; at least its last token is left to compute.

        A learned prefix is found whole or not at all, so that writing it never meets these blocks.
        """
        found: list[int] = []
        for index in range((sequence.num_tokens - 1) // self._block_size):
            block = self._blocks.get(self._key(sequence, index))
            if block is None:
                break
            found.append(block)
        covers_prefix = len(found) * self._block_size >= sequence.num_prefix
        return found if covers_prefix else []

    def publish(self, sequence: Sequence, first_position: int) -> None:
        """Offer the blocks that were filled from `first_position` on; their content is final."""
        first = first_position // self._block_size
        for index in range(first, sequence.num_computed // self._block_size):
            key, block = self._key(sequence, index), sequence.block_table[index]
            # Computed twice at the same time: the first stays, the other is nobody's afterwards.
            if self._blocks.setdefault(key, block) == block:
                self._keys[block] = key

    def forget(self, block: int) -> None:
        del self._blocks[self._keys.pop(block)]

    def _key(self, sequence: Sequence, index: int) -> bytes:
        """Kept by the sequence, whose known tokens never change; made no further than asked for."""
        keys = sequence.block_keys
        while len(keys) <= index:
            parent = keys[-1] if keys else self._root(sequence)
            keys.append(
                _block_key(sequence, parent, len(keys) * self._block_size, self._block_size)
            )
        return keys[index]

    def _root(self, sequence: Sequence) -> bytes:
        """Tenants share nothing: how fast a prompt is computed would tell what others have sent."""
        has_tasks = sequence.adapter is not None and sequence.adapter.num_tasks > 0
        task_id = sequence.request.task_id if has_tasks else None
        length_class = self._length_classes.of(sequence.final_len)
        root = (sequence.request.tenant, task_id, length_class)
        return hashlib.sha256(repr(root).encode()).digest()


def _block_key(sequence: Sequence, parent: bytes, start: int, size: int) -> bytes:
    """What lies in front of a prompt follows from digest, task and position.

    sha256, not `hash`: a client who could make two chains collide would read another's.
    """
    token_ids = array("q", sequence.token_ids(start, start + size))
    first = sequence.first_adapted
    num_base = size if first is None else min(max(0, first - start), size)
    digest = sequence.adapter.digest if sequence.adapter and num_base < size else ""
    content = (parent, token_ids.tobytes(), num_base.to_bytes(8, "little"), digest.encode())
    return hashlib.sha256(b"".join(content)).digest()
