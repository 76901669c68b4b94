from hypothesis import given, strategies as st

from service.core import GenerationRequest, SamplingParams
from service.engine.block_manager import BlockManager
from service.engine.sequence import Sequence


def make_sequence() -> Sequence:
    return Sequence(GenerationRequest("r", (1,), SamplingParams(1)), 0, frozenset())


OPERATIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), max_size=40)


@given(st.integers(0, 12), st.integers(1, 5), OPERATIONS)
def test_free_and_held_blocks_are_all_blocks_after_any_growing_and_freeing(
    num_blocks: int, block_size: int, operations: list[tuple[int, int]]
) -> None:
    blocks = BlockManager(num_blocks, block_size)
    sequences = [make_sequence() for _ in range(4)]
    for index, num_tokens in operations:
        if num_tokens == 0:
            blocks.free(sequences[index])
            assert sequences[index].block_table == []
        elif blocks.can_grow(sequences[index], num_tokens):
            before = list(sequences[index].block_table)
            blocks.grow(sequences[index], num_tokens)
            after = sequences[index].block_table
            assert after[: len(before)] == before
            assert len(after) == max(len(before), -(-num_tokens // block_size))
        held = [block for one in sequences for block in one.block_table]
        assert sorted([*held, *blocks._free]) == list(range(num_blocks))
        assert blocks.num_used == len(held)
        assert blocks.num_free == num_blocks - len(held)


def test_growing_is_refused_exactly_when_blocks_run_out() -> None:
    blocks = BlockManager(3, 4)
    one, other = make_sequence(), make_sequence()
    blocks.grow(one, 5)
    assert blocks.can_grow(other, 4)
    assert not blocks.can_grow(other, 5)
    assert blocks.can_grow(one, 12)
    assert not blocks.can_grow(one, 13)
