"""Extents of a byte arena: they tile it, whatever is taken and given back."""

import itertools

from hypothesis import given, strategies as st

from service.adapters.arena import Extent, PageArena

PAGE = 64


def assert_tiled(arena: PageArena, taken: list[Extent]) -> None:
    extents = sorted([*taken, *arena._free])
    ends = list(itertools.accumulate([0, *(one.num_bytes for one in extents)]))
    assert [one.offset for one in extents] == ends[:-1]
    assert ends[-1] == arena.num_bytes
    assert arena.num_free == arena.num_bytes - sum(one.num_bytes for one in taken)


def assert_merged(arena: PageArena) -> None:
    for left, right in itertools.pairwise(arena._free):
        assert left.offset + left.num_bytes < right.offset


@given(st.integers(0, 1000), st.lists(st.integers(-4, 400).filter(bool), max_size=40))
def test_extents_tile_the_arena_after_any_operations(num_bytes: int, sizes: list[int]) -> None:
    """A positive number takes so many bytes, a negative one gives an extent back."""
    arena = PageArena(num_bytes, PAGE)
    taken: list[Extent] = []
    for size in sizes:
        if size < 0:
            if taken:
                arena.free(taken.pop(size % len(taken)))
        else:
            can = arena.can_allocate(size)
            extent = arena.allocate(size)
            assert (extent is not None) == can
            if extent is not None:
                assert extent.num_bytes == arena.round_up(size) >= size
                assert extent.offset % PAGE == 0
                taken.append(extent)
        assert_tiled(arena, taken)
        assert_merged(arena)
    for extent in taken:
        arena.free(extent)
    assert_tiled(arena, [])
    assert len(arena._free) <= 1


def test_the_first_gap_that_is_long_enough_is_taken() -> None:
    arena = PageArena(8 * PAGE, PAGE)
    small, _, large, _ = (arena.allocate(count * PAGE) for count in (1, 1, 2, 1))
    arena.free(large)
    arena.free(small)
    assert arena.allocate(2 * PAGE) == large
    assert arena.allocate(1) == small


def test_free_pages_that_are_apart_do_not_add_up() -> None:
    arena = PageArena(3 * PAGE, PAGE)
    extents = [arena.allocate(1) for _ in range(3)]
    arena.free(extents[0])
    arena.free(extents[2])
    assert arena.num_free == 2 * PAGE
    assert not arena.can_allocate(PAGE + 1)
    assert arena.allocate(PAGE + 1) is None
    arena.free(extents[1])
    assert arena.allocate(3 * PAGE) == Extent(0, 3 * PAGE)


def test_what_fits_the_empty_arena_is_whole_pages() -> None:
    arena = PageArena(3 * PAGE + 50, PAGE)
    assert arena.num_bytes == 3 * PAGE
    assert arena.fits_empty(3 * PAGE)
    assert not arena.fits_empty(3 * PAGE + 1)


def test_a_copy_tries_things_out_without_consequences() -> None:
    arena = PageArena(2 * PAGE, PAGE)
    twin = arena.copy()
    twin.allocate(2 * PAGE)
    assert not twin.can_allocate(1)
    assert arena.can_allocate(2 * PAGE)
