"""What is deleted comes back as it was until its time is over, and nothing else does."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from service.adapters.deletions import (
    delete_for,
    delete_version_for,
    expired,
    is_restorable,
    pointers_to,
    purge_for,
    recoverable,
    recoverable_until,
    restore_for,
)
from service.adapters.history import NameHistory
from service.adapters.moves import rollback_for
from service.adapters.naming import Selector
from service.adapters.operations import (
    Delete,
    DeleteVersion,
    Move,
    Operation,
    Publish,
    Purge,
    Restore,
    Rollback,
    operation_from_json,
    operation_to_json,
)
from service.errors import AdapterNotFound, NameConflict, VersionInUse

SPLIT = ((1, 95), (2, 5))
DAY = 86400.0


def always(digest: str) -> bool:
    return True


@pytest.fixture
def history() -> NameHistory:
    """Three versions, the last one current; aliases to the first two and to the last."""
    history = NameHistory()
    for number in (1, 2, 3):
        history.apply(Publish(number, f"d{number}", 0))
    history.apply(Move(0, None, (("canary", SPLIT), ("new", ((3, 1),)))))
    return history


def restore(history: NameHistory, number: int | None = None, now: float = 0) -> Restore:
    alive = recoverable(history, now, DAY)
    operation = restore_for("a", history, number, alive, always, int(now))
    history.apply(operation)
    return operation


@pytest.mark.parametrize(
    "operation", [DeleteVersion(3, 5), Restore(5, 3), Restore(5), Purge((1, 2), 5)]
)
def test_records_keep_what_was_deleted_and_restored(operation: Operation) -> None:
    assert operation_from_json(json.loads(json.dumps(operation_to_json(operation)))) == operation


def test_a_version_in_use_says_by_which_pointers(history: NameHistory) -> None:
    for number, pointers in ((2, ("aliases.canary",)), (3, ("current", "aliases.new"))):
        assert pointers_to(history, number) == pointers
        with pytest.raises(VersionInUse, match="aliases") as caught:
            delete_version_for("a", history, Selector("a", number=number), 5)
        assert caught.value.pointers == pointers
    history.apply(Move(0, None, (("canary", ()),)))
    assert delete_version_for("a", history, Selector("a", digest_prefix="d2"), 5) == DeleteVersion(
        2, 5
    )


@pytest.mark.parametrize("wanted", [Selector("a", number=9), Selector("a", digest_prefix="d")])
def test_what_names_no_single_version_is_not_found(history: NameHistory, wanted: Selector) -> None:
    with pytest.raises(AdapterNotFound, match="a@"):
        delete_version_for("a", history, wanted, 5)


def test_a_deleted_version_comes_back_under_its_number(history: NameHistory) -> None:
    history.apply(Move(0, None, (("canary", ()),)))
    before = (dict(history.versions), history.current, dict(history.aliases))
    history.apply(DeleteVersion(2, 5))
    assert (sorted(history.versions), history.deleted[2].deleted_at) == ([1, 3], 5)
    assert rollback_for("a", history, 0) == Rollback(1, 0), "it is not rolled back to"
    restore(history, 2)
    assert (history.versions, history.current, history.aliases) == before
    assert rollback_for("a", history, 0) == Rollback(2, 0)


def test_a_deleted_name_comes_back_as_it_was(history: NameHistory) -> None:
    history.apply(Publish(4, "d4", 0))
    history.apply(Move(0, 3))
    history.apply(DeleteVersion(4, 1))
    before = (dict(history.versions), history.current, dict(history.aliases), list(history.trail))
    history.apply(delete_for("a", history, 5))
    assert (history.versions, history.current, history.aliases) == ({}, None, {})
    with pytest.raises(AdapterNotFound):
        delete_for("a", history, 6)
    assert is_restorable(history, recoverable(history, 6, DAY))
    restore(history)
    after = (history.versions, history.current, history.aliases, history.trail)
    assert after == before
    assert sorted(history.deleted) == [4], "what was deleted before stays deleted"
    with pytest.raises(NameConflict, match="not deleted"):
        restore(history)


@pytest.mark.parametrize(("now", "end"), [(9, 10), (10, None)])
def test_terms_come_back_with_the_name_unless_they_would_end_it(
    history: NameHistory, now: int, end: int | None
) -> None:
    history.apply(Move(0, pinned=True, expires_at=10))
    history.apply(Delete(5))
    assert (history.pinned, history.expires_at) == (False, None)
    restore(history, now=now)
    assert (history.pinned, history.expires_at) == (True, end)


def test_one_version_of_a_deleted_name_makes_it_live_again(history: NameHistory) -> None:
    history.apply(Delete(5))
    restore(history, 2)
    assert (sorted(history.versions), history.current, history.aliases) == ([2], 2, {})
    with pytest.raises(NameConflict, match="say which version"):
        restore(history)
    restore(history, 1)
    assert (sorted(history.versions), history.current) == ([1, 2], 2)


def test_a_new_name_does_not_hide_what_the_old_one_had(history: NameHistory) -> None:
    history.apply(Delete(5))
    published = history.operation_for("d2", 6)
    assert published == Publish(4, "d2", 6), "numbers are not used again"
    history.apply(published)
    with pytest.raises(NameConflict, match="a@4"):
        restore(history, 2)
    restore(history, 1)
    assert sorted(history.versions) == [1, 4]
    with pytest.raises(NameConflict, match="not deleted"):
        restore(history, 1)


def test_the_grace_ends_at_its_second(history: NameHistory) -> None:
    history.apply(Delete(5))
    over = recoverable_until(5, DAY)
    assert over == 5 + 86400
    assert list(recoverable(history, over - 1, DAY)) == [1, 2, 3]
    assert expired(history, over - 1, DAY) == {}
    assert list(expired(history, over, DAY)) == [1, 2, 3]
    assert list(expired(history, 5, 0)) == [1, 2, 3]
    for number in (None, 1):
        with pytest.raises(AdapterNotFound):
            restore(replace(history), number, now=over)


def test_what_is_given_up_stays_gone(history: NameHistory) -> None:
    history.apply(Delete(5))
    purge = purge_for(history, [1, 2, 9], 6)
    assert purge == Purge((1, 2), 6)
    history.apply(purge)
    assert purge_for(history, [1, 2], 7) is None
    for number in (None, 1):
        with pytest.raises(AdapterNotFound):
            restore(history, number)
    history.apply(Purge((3,), 7))
    assert history.grave is None
    assert history.digests == {"d1", "d2", "d3"}, "a shipped folder must not bring it back"
    assert history.operation_for("d1", 8) == Publish(4, "d1", 8)


def test_content_that_is_gone_is_not_promised(history: NameHistory) -> None:
    history.apply(Delete(5))
    alive = recoverable(history, 6, DAY)
    with pytest.raises(NameConflict, match="a@2"):
        restore_for("a", history, None, alive, lambda digest: digest != "d2", 6)
    assert restore_for("a", history, 1, alive, lambda digest: digest != "d2", 6) == Restore(6, 1)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("pqrs")),
        st.tuples(st.sampled_from(["drop", "restore", "purge"]), st.integers(1, 6)),
        st.tuples(st.sampled_from(["delete", "undelete"]), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(actions)
def test_any_life_replays_and_keeps_its_numbers(life: list[tuple[str, str | int]]) -> None:
    """Every number stays what it was, in exactly one state: live, deleted or given up."""
    history = NameHistory()
    operations: list[Operation] = []
    contents: dict[int, str] = {}
    given_up: set[int] = set()
    for action, what in life:
        try:
            operation = decide(history, action, what)
        except (AdapterNotFound, NameConflict):
            continue
        if operation is None:
            continue
        operations.append(operation)
        history.apply(operation)
        if isinstance(operation, Publish):
            assert operation.number not in contents
            contents[operation.number] = operation.digest
        if isinstance(operation, Purge):
            given_up |= set(operation.numbers)
        check(history, contents, given_up)
    replayed = NameHistory()
    for operation in operations:
        replayed.apply(operation_from_json(json.loads(json.dumps(operation_to_json(operation)))))
    assert replayed == history


def decide(history: NameHistory, action: str, what: str | int) -> Operation | None:
    alive = recoverable(history, 0, DAY)
    match action:
        case "publish":
            return history.operation_for(str(what), 0)
        case "drop":
            return delete_version_for("a", history, Selector("a", number=int(what)), 0)
        case "restore":
            return restore_for("a", history, int(what), alive, always, 0)
        case "purge":
            return purge_for(history, [int(what)], 0)
        case "undelete":
            return restore_for("a", history, None, alive, always, 0)
    return delete_for("a", history, 0)


def check(history: NameHistory, contents: dict[int, str], given_up: set[int]) -> None:
    live = {number: version.digest for number, version in history.versions.items()}
    deleted = {number: one.version.digest for number, one in history.deleted.items()}
    assert live | deleted == {n: d for n, d in contents.items() if n not in given_up}
    assert not live.keys() & deleted.keys()
    assert len(set(live.values())) == len(live), "a digest names one version"
    assert (history.current in live) == bool(live)
    assert (history.grave is None) or not live
