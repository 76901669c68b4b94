"""Histories against a model that keeps everything and looks it up the slow way."""

from hypothesis import given, strategies as st

from service.adapters.history import (
    Delete,
    NameHistory,
    Operation,
    Publish,
    operation_from_json,
    operation_to_json,
)

actions = st.lists(st.one_of(st.sampled_from(["p", "q", "r"]), st.just("delete")), max_size=25)


@given(actions)
def test_numbers_grow_and_old_content_moves_back(actions: list[str]) -> None:
    history = NameHistory()
    operations: list[Operation] = []
    numbers: dict[str, int] = {}
    highest = 0
    current = None
    for action in actions:
        if action == "delete":
            if history.versions:
                operations.append(Delete(0))
                history.apply(operations[-1])
            numbers, current = {}, None
        else:
            operation = history.operation_for(action, 0)
            assert (operation is None) == (current == action)
            if operation is not None:
                operations.append(operation)
                history.apply(operation)
            if action not in numbers:
                highest += 1
                numbers[action] = highest
            current = action
        assert {version.digest: n for n, version in history.versions.items()} == numbers
        assert history.current == (numbers[current] if current else None)
        assert history.highest_number == highest
        assert history.num_operations == len(operations)
    assert history.digests == {a for a in actions if a != "delete"}

    replayed = NameHistory()
    for operation in operations:
        replayed.apply(operation_from_json(operation_to_json(operation)))
    assert replayed == history


def test_records_keep_what_belongs_to_the_version() -> None:
    operation = Publish(1, "d", 5, ("w",), ("README.md",))
    assert operation_from_json(operation_to_json(operation)) == operation
