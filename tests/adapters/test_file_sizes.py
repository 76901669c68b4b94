"""The sum of sizes is always that of the sizes."""

from hypothesis import given, strategies as st

from service.adapters.file_sizes import FileSizes

names = st.sampled_from("abcd")
changes = st.lists(st.tuples(names, st.one_of(st.none(), st.integers(0, 9))))


@given(changes)
def test_any_changes_leave_the_sum_and_the_order_of_use(changes: list) -> None:
    sizes, expected = FileSizes(), {}
    for name, num_bytes in changes:
        expected.pop(name, None)
        if num_bytes is None:
            sizes.drop(name)
        else:
            sizes.use(name, num_bytes)
            expected[name] = num_bytes
        assert sizes.num_bytes == sum(expected.values())
        assert sizes.least_recent_first() == list(expected)
        assert len(sizes) == len(expected)
        assert all((one in sizes) == (one in expected) for one in "abcd")
