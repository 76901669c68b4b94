"""Histories against a model that keeps everything and looks it up the slow way."""

import json

import pytest
from hypothesis import given, strategies as st

from service.adapters.history import NameHistory
from service.adapters.moves import WantedMove, move_for, rollback_for
from service.adapters.operations import (
    Delete,
    Move,
    Operation,
    Publish,
    Rollback,
    operation_from_json,
    operation_to_json,
)
from service.errors import NameConflict

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


@pytest.mark.parametrize(
    "operation",
    [Move(5, 2, (("canary", ((1, 95), (2, 5))), ("old", ()))), Move(5), Rollback(3, 5)],
)
def test_records_keep_where_pointers_lead(operation: Operation) -> None:
    assert operation_from_json(json.loads(json.dumps(operation_to_json(operation)))) == operation


def published(*digests: str) -> NameHistory:
    history = NameHistory()
    for digest in digests:
        operation = history.operation_for(digest, 0)
        assert operation is not None
        history.apply(operation)
    return history


def test_aliases_stay_where_they_are_while_the_name_moves() -> None:
    history = published("p", "q")
    history.apply(Move(0, None, (("stable", ((1, 1),)), ("old", ((2, 1),)))))
    history.apply(Publish(3, "r", 0))
    assert (history.current, history.aliases) == (3, {"stable": ((1, 1),), "old": ((2, 1),)})
    history.apply(Move(0, 2, (("old", ()),)))
    assert (history.current, history.aliases) == (2, {"stable": ((1, 1),)})
    history.apply(Delete(0))
    assert (history.aliases, history.trail) == ({}, [])


moves = st.lists(st.one_of(st.integers(1, 4), st.just("back")), max_size=30)


@given(moves)
def test_rollbacks_go_back_the_way_that_the_name_came(moves: list[int | str]) -> None:
    """Against the list of everything that was ever current and not taken back."""
    history = published("p", "q", "r", "s")
    way = [1, 2, 3, 4]
    for move in moves:
        if move == "back":
            if len(way) == 1:
                with pytest.raises(NameConflict):
                    rollback_for("a", history, 0)
                continue
            way.pop()
            history.apply(rollback_for("a", history, 0))
        else:
            operation = move_for("a", history, WantedMove(current=move), 0)
            assert (operation is None) == (way[-1] == move)
            if operation is not None:
                history.apply(operation)
                way.append(move)
        assert history.current == way[-1]
